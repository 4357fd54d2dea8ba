// Part of the persistent decode kernel: rotation, KV append and attention of one token as attention_decode does them, pieces of
// LANES keys dealt to the workgroups in turn, WORKGROUP / LANES at a time in each; then the heads are dealt in the same way,
// and their pieces joined as attention_combine does. Sums in the order of attention_piece.wgsl: same bits.
//   out[h] = sum_k softmax(q . key_k * scale) value_k,   kv head = h / (H / Hkv)
// Preceded by persistent_crossing.wgsl, persistent_quantize.wgsl (staged), attention_join.wgsl and rope.wgsl. Preconditions: Dh a
// multiple of 8 and at most LANES and 256, LANES a multiple of 16, staged of WORKGROUP / LANES * 8 * value_pitch floats.

override LANES: u32 = 256; // of a slot, and keys of a piece
override value_pitch = LANES + 4u;
// Loads in flight per lane; they change no bit.
override CHUNKS_AHEAD: u32 = 1; // chunks of a key at once, at most 4
override KEYS_AHEAD: u32 = 1; // rows of values at once, at most 8
override slots = WORKGROUP / LANES;

const most_chunks = 32u; // Dh <= 256

var<workgroup> own_key: array<vec4u, slots * most_chunks>;
var<workgroup> own_value: array<vec4u, slots * most_chunks>;
var<workgroup> query: array<vec4f, slots * (LANES / 4u)>; // [Dh] scaled, 0 beyond
var<workgroup> scores: array<f32, WORKGROUP>; // scores, then exp(s - m)
var<workgroup> maxima: array<f32, slots * 16u>;
var<workgroup> group_sums: array<f32, WORKGROUP>;

/// One piece of one head, for the LANES invocations of a slot.
struct Piece {
  slot: u32,
  lane: u32, // of the slot
  head: u32,
  index: u32,
  count: u32, // its keys; 0 when there is no such piece
  first: u32, // 16-byte chunk where its keys start in the caches
  own: u32, // and where the token's own row does
  other: u32, // a neighbour's, read in its place: no branch around a load, no race with the writer
  holds_own: bool,
}

fn key_chunk(piece: Piece, row: u32, c: u32) -> vec4u {
  let is_own = row == piece.own;
  return select(key_cache[select(row, piece.other, is_own) + c], own_key[piece.slot * most_chunks + c], is_own);
}

fn value_chunk(piece: Piece, row: u32, c: u32) -> vec4u {
  let is_own = row == piece.own;
  return select(value_cache[select(row, piece.other, is_own) + c], own_value[piece.slot * most_chunks + c], is_own);
}

fn low_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.x), unpack2x16float(chunk.y));
}

fn high_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.z), unpack2x16float(chunk.w));
}

fn eight_halves(values: array<f32, 8>) -> vec4u {
  return vec4u(pack2x16float(vec2f(values[0], values[1])), pack2x16float(vec2f(values[2], values[3])),
               pack2x16float(vec2f(values[4], values[5])), pack2x16float(vec2f(values[6], values[7])));
}

// acc + a . b as one chain.
fn fma_dot(a: vec4f, b: vec4f, acc: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}

/// The floats of the slot's query, rotated and scaled, into its part of `staged`, and where the piece ends with the token's
/// own key and value theirs: [query LANES, key LANES, value LANES].
fn stage_own(piece: Piece, qkv_at: u32) {
  let half = params.Dh / 2u;
  let key_head = params.H + piece.head / (params.H / params.Hkv);
  let floats = piece.slot * 8u * value_pitch;
  for (var i = piece.lane; i < select(half, 3u * half, piece.holds_own); i += LANES) {
    let part = i / half;
    let e = i % half;
    let head = select(select(key_head + params.Hkv, key_head, part == 1u), piece.head, part == 0u);
    var at: array<u32, 8>;
    at[0] = qkv_at + head * params.Dh + e;
    at[1] = at[0] + half;
    let pair = await_few(at, 2u);
    let angle = angles[step.position * half + e];
    let low = select(rotated_low(pair[0], pair[1], angle), pair[0], part == 2u);
    let high = select(rotated_high(pair[0], pair[1], angle), pair[1], part == 2u);
    let scale = select(1.0, params.attention_scale, part == 0u);
    staged[floats + part * LANES + e] = select(low, low * scale, part == 0u);
    staged[floats + part * LANES + e + half] = select(high, high * scale, part == 0u);
  }
}

/// From there into `query`, `own_key` and `own_value`, and into the caches.
fn load_own(piece: Piece) {
  let floats = piece.slot * 8u * value_pitch;
  let quarter = piece.lane / (LANES / 4u);
  let c = piece.lane % (LANES / 4u);
  if (quarter == 0u) {
    let e = floats + 4u * c;
    let four = vec4f(staged[e], staged[e + 1u], staged[e + 2u], staged[e + 3u]);
    query[piece.slot * (LANES / 4u) + c] = select(vec4f(), four, 4u * c < params.Dh);
  } else if (quarter < 3u && piece.holds_own && 8u * c < params.Dh) {
    var elements: array<f32, 8>;
    for (var e = 0u; e < 8u; e++) {
      elements[e] = staged[floats + quarter * LANES + 8u * c + e];
    }
    let words = eight_halves(elements);
    let is_writer = piece.head % (params.H / params.Hkv) == 0u;
    if (quarter == 1u) {
      own_key[piece.slot * most_chunks + c] = words;
      if (is_writer) {
        key_cache[piece.own + c] = words;
      }
    } else {
      own_value[piece.slot * most_chunks + c] = words;
      if (is_writer) {
        value_cache[piece.own + c] = words;
      }
    }
  }
}

/// Score of key `lane` of the piece; unused lanes get `lowest`.
fn piece_score(piece: Piece) -> f32 {
  let chunks = params.Dh / 8u;
  let parts = piece.slot * 8u * value_pitch; // 4 of each key
  let q = piece.slot * (LANES / 4u);
  for (var key = piece.lane / 4u; key < piece.count; key += LANES / 2u) {
    let far_key = min(key + LANES / 4u, piece.count - 1u);
    var sum = 0.0;
    var far_sum = 0.0;
    for (var start = piece.lane % 4u; start < chunks; start += 4u * CHUNKS_AHEAD) {
      var near: array<vec4u, 4>;
      var far: array<vec4u, 4>;
      for (var i = 0u; i < CHUNKS_AHEAD; i++) {
        let c = min(start + 4u * i, chunks - 1u);
        near[i] = key_chunk(piece, piece.first + key * chunks, c);
        far[i] = key_chunk(piece, piece.first + far_key * chunks, c);
      }
      for (var i = 0u; i < CHUNKS_AHEAD; i++) {
        let c = start + 4u * i;
        if (c < chunks) {
          sum = fma_dot(high_half(near[i]), query[q + 2u * c + 1u], fma_dot(low_half(near[i]), query[q + 2u * c], sum));
          far_sum = fma_dot(high_half(far[i]), query[q + 2u * c + 1u], fma_dot(low_half(far[i]), query[q + 2u * c], far_sum));
        }
      }
    }
    staged[parts + 4u * key + piece.lane % 4u] = sum;
    if (key + LANES / 4u < piece.count) {
      staged[parts + 4u * far_key + piece.lane % 4u] = far_sum;
    }
  }
  workgroupBarrier();
  if (piece.lane >= piece.count) {
    return lowest;
  }
  let first = parts + 4u * piece.lane;
  return staged[first] + staged[first + 1u] + staged[first + 2u] + staged[first + 3u];
}

/// The largest of a slot's scores.
fn slot_maximum(score: f32, piece: Piece) -> f32 {
  let own = piece.slot * LANES;
  scores[own + piece.lane] = score;
  workgroupBarrier();
  if (piece.lane < 16u) {
    var m = lowest;
    for (var i = piece.lane; i < LANES; i += 16u) {
      m = max(m, scores[own + i]);
    }
    maxima[piece.slot * 16u + piece.lane] = m;
  }
  workgroupBarrier();
  var m = lowest;
  for (var i = 0u; i < 16u; i++) {
    m = max(m, maxima[piece.slot * 16u + i]);
  }
  return m;
}

struct Sums {
  m: f32, // maximal score
  l: f32, // sum of exp(s - m)
  o: f32, // sum of exp(s - m) v[d], d = lane
}

/// Sums of exp(s - m) v over the keys of each group of lanes, into `staged` and `group_sums`.
fn sum_values(piece: Piece, groups: u32) {
  let chunks = params.Dh / 8u;
  let group = piece.lane / chunks;
  if (group >= groups) {
    return;
  }
  var low = vec4f();
  var high = vec4f();
  var sum = 0.0;
  for (var start = group; start < piece.count; start += KEYS_AHEAD * groups) {
    var loaded: array<vec4u, 8>;
    for (var i = 0u; i < KEYS_AHEAD; i++) {
      let key = min(start + i * groups, piece.count - 1u);
      loaded[i] = value_chunk(piece, piece.first + key * chunks, piece.lane % chunks);
    }
    for (var i = 0u; i < KEYS_AHEAD; i++) {
      let key = start + i * groups;
      if (key < piece.count) {
        let weight = scores[piece.slot * LANES + key];
        low = fma(vec4f(weight), low_half(loaded[i]), low);
        high = fma(vec4f(weight), high_half(loaded[i]), high);
        sum += weight;
      }
    }
  }
  let sums = piece.slot * 8u * value_pitch + piece.lane;
  for (var e = 0u; e < 4u; e++) {
    staged[sums + e * value_pitch] = low[e];
    staged[sums + (e + 4u) * value_pitch] = high[e];
  }
  if (piece.lane % chunks == 0u) {
    group_sums[piece.slot * LANES + group] = sum;
  }
}

/// One piece. m and l are the same in every lane of the slot.
fn attend(piece: Piece) -> Sums {
  workgroupBarrier(); // the query is loaded
  let score = piece_score(piece);
  let m = slot_maximum(score, piece);
  scores[piece.slot * LANES + piece.lane] = exp(score - m);
  workgroupBarrier();
  let chunks = params.Dh / 8u;
  let groups = min(LANES / chunks, piece.count);
  sum_values(piece, groups);
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

fn with_piece(a: Sums, b: Sums) -> Sums {
  let factors = join_factors(a.m, b.m);
  return Sums(factors.m, fma(a.l, factors.so_far, b.l * factors.piece), fma(a.o, factors.so_far, b.o * factors.piece));
}

/// All pieces of a head, four awaited together; element d.
fn join_pieces(partials_at: u32, d: u32, count: u32) -> Sums {
  let pitch = params.Dh + 2u;
  var sums = Sums(lowest, 0.0, 0.0);
  for (var first = 0u; first < count; first += 4u) {
    var at: array<u32, 24>;
    for (var i = 0u; i < 4u; i++) {
      let row = partials_at + min(first + i, count - 1u) * pitch;
      at[3u * i] = row + params.Dh;
      at[3u * i + 1u] = row + params.Dh + 1u;
      at[3u * i + 2u] = row + d;
    }
    let found = await_many(at, 12u);
    for (var i = 0u; i < 4u; i++) {
      if (first + i < count) {
        sums = with_piece(sums, Sums(found[3u * i], found[3u * i + 1u], found[3u * i + 2u]));
      }
    }
  }
  return sums;
}

/// A piece's sums for whoever joins them.
fn publish_piece(piece: Piece, sums: Sums, partials_at: u32) {
  let row = partials_at + (piece.head * params.pieces + piece.index) * (params.Dh + 2u);
  if (piece.lane < params.Dh) {
    publish(row + piece.lane, sums.o);
  }
  if (piece.lane == 0u) {
    publish(row + params.Dh, sums.m);
    publish(row + params.Dh + 1u, sums.l);
  }
}

fn publish_attended(attended_at: u32, head: u32, d: u32, sums: Sums) {
  publish(attended_at + plane_word(head * params.Dh + d, params.H * params.Dh), sums.o / sums.l);
}

/// Attention of all heads over the keys up to and with the token's own.
fn attend_heads(layer: u32, place: Place, grid: Grid) {
  let keys = step.position + 1u;
  let count = (keys + LANES - 1u) / LANES;
  let chunks = params.Dh / 8u;
  let slot = place.local / LANES;
  let lane = place.local % LANES;
  let attended_at = layer_at(layer) + params.attended_at;
  let partials_at = layer_at(layer) + params.partials_at;
  for (var first = grid.group; first < params.H * count; first += slots * grid.groups) {
    let item = first + slot * grid.groups;
    let is_there = item < params.H * count;
    let head = item % params.H;
    let index = select(0u, item / params.H, is_there);
    let own_keys = select(0u, min(LANES, keys - index * LANES), is_there);
    let rows = layer * params.layer_chunks + head / (params.H / params.Hkv) * params.context * chunks;
    let own = rows + step.position * chunks;
    let other = select(own - chunks, own + chunks, step.position == 0u);
    let piece = Piece(slot, lane, head, index, own_keys, rows + index * LANES * chunks, own, other,
                      is_there && index + 1u == count);
    workgroupBarrier(); // what lies in `staged` has been read
    stage_own(piece, layer_at(layer));
    workgroupBarrier();
    load_own(piece);
    let sums = attend(piece);
    if (is_there && count > 1u) {
      publish_piece(piece, sums, partials_at);
    } else if (is_there && lane < params.Dh) {
      publish_attended(attended_at, head, lane, with_piece(Sums(lowest, 0.0, 0.0), sums));
    }
  }
  if (count > 1u) {
    workgroupBarrier(); // see await_few
    for (var head = grid.group + slot * grid.groups; head < params.H; head += slots * grid.groups) {
      if (lane < params.Dh) {
        let pieces_at = partials_at + head * params.pieces * (params.Dh + 2u);
        publish_attended(attended_at, head, lane, join_pieces(pieces_at, lane, count));
      }
    }
  }
}
