// Part of the persistent decode kernel: softmax of one piece and the sums of its values, in the order of attention_piece.wgsl.
// Preceded by persistent_attention_scores.wgsl.

struct Sums {
  m: f32, // maximal score
  l: f32, // sum of exp(s - m)
  o: f32, // sum of exp(s - m) v[d], d = lane
}

/// This lane's chunk of up to eight rows of values.
struct Rows {
  a: vec4u,
  b: vec4u,
  c: vec4u,
  d: vec4u,
  e: vec4u,
  f: vec4u,
  g: vec4u,
  h: vec4u,
}

fn value_of(piece: Piece, key: u32, chunk: u32) -> vec4u {
  let row = piece.first + min(key, max(piece.count, 1u) - 1u) * (params.Dh / 8u);
  return value_chunk(piece, row, chunk);
}

fn load_rows(piece: Piece, groups: u32, key: u32, chunk: u32) -> Rows {
  var rows: Rows;
  rows.a = value_of(piece, key, chunk);
  if (KEYS_AHEAD > 1u) {
    rows.b = value_of(piece, key + groups, chunk);
    rows.c = value_of(piece, key + 2u * groups, chunk);
    rows.d = value_of(piece, key + 3u * groups, chunk);
  }
  if (KEYS_AHEAD > 4u) {
    rows.e = value_of(piece, key + 4u * groups, chunk);
    rows.f = value_of(piece, key + 5u * groups, chunk);
    rows.g = value_of(piece, key + 6u * groups, chunk);
    rows.h = value_of(piece, key + 7u * groups, chunk);
  }
  return rows;
}

struct ValueSums {
  low: vec4f,
  high: vec4f,
  weights: f32,
}

fn add_value(sums: ValueSums, chunk: vec4u, piece: Piece, key: u32) -> ValueSums {
  if (key >= piece.count) {
    return sums;
  }
  let weight = scores[piece.slot * LANES + key];
  return ValueSums(fma(vec4f(weight), low_half(chunk), sums.low), fma(vec4f(weight), high_half(chunk), sums.high),
                   sums.weights + weight);
}

fn add_rows(sums: ValueSums, rows: Rows, piece: Piece, key: u32, groups: u32) -> ValueSums {
  var added = add_value(sums, rows.a, piece, key);
  if (KEYS_AHEAD > 1u) {
    added = add_value(added, rows.b, piece, key + groups);
    added = add_value(added, rows.c, piece, key + 2u * groups);
    added = add_value(added, rows.d, piece, key + 3u * groups);
  }
  if (KEYS_AHEAD > 4u) {
    added = add_value(added, rows.e, piece, key + 4u * groups);
    added = add_value(added, rows.f, piece, key + 5u * groups);
    added = add_value(added, rows.g, piece, key + 6u * groups);
    added = add_value(added, rows.h, piece, key + 7u * groups);
  }
  return added;
}

/// Sums of exp(s - m) v over the keys of each group of lanes, into `staged` and `group_sums`. `early` are the first
/// rows of this lane.
fn sum_values(piece: Piece, groups: u32, early: Rows) {
  let chunks = params.Dh / 8u;
  let group = piece.lane / chunks;
  if (group >= groups) {
    return;
  }
  var sums: ValueSums;
  for (var key = group; key < piece.count; key += KEYS_AHEAD * groups) {
    var rows = early;
    if (key >= groups) {
      rows = load_rows(piece, groups, key, piece.lane % chunks);
    }
    sums = add_rows(sums, rows, piece, key, groups);
  }
  let at = piece.slot * 8u * value_pitch + piece.lane;
  for (var e = 0u; e < 4u; e++) {
    staged[at + e * value_pitch] = sums.low[e];
    staged[at + (e + 4u) * value_pitch] = sums.high[e];
  }
  if (piece.lane % chunks == 0u) {
    group_sums[piece.slot * LANES + group] = sums.weights;
  }
}

/// One piece. m and l are the same in every lane of the slot.
fn attend(piece: Piece, lanes: u32) -> Sums {
  workgroupBarrier(); // the query is loaded
  score_parts(piece);
  let chunks = params.Dh / 8u;
  let groups = min(LANES / chunks, piece.count);
  let rows = load_rows(piece, groups, piece.lane / chunks, piece.lane % chunks); // on their way during the softmax
  workgroupBarrier();
  let score = piece_score(piece);
  let m = slot_maximum(score, piece, lanes);
  scores[piece.slot * LANES + piece.lane] = exp(score - m);
  workgroupBarrier();
  sum_values(piece, groups, rows);
  workgroupBarrier();
  let own = piece.slot * 8u * value_pitch + piece.lane % 8u * value_pitch + piece.lane / 8u % chunks;
  var sums = Sums(m, 0.0, 0.0);
  for (var start = 0u; start < groups; start += 4u) {
    var of_groups: array<f32, 4>;
    var parts: array<f32, 4>;
    for (var i = 0u; i < 4u; i++) {
      let g = min(start + i, groups - 1u);
      of_groups[i] = group_sums[piece.slot * LANES + g];
      parts[i] = staged[own + g * chunks];
    }
    for (var i = 0u; i < 4u; i++) {
      if (start + i < groups) {
        sums.l += of_groups[i];
        sums.o += parts[i];
      }
    }
  }
  return sums;
}
