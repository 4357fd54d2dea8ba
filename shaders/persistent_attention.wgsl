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
var<workgroup> maxima: array<f32, slots * (LANES / 4u)>; // of subgroups, or 16 of a slot
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

/// Up to four chunks of a key at once; named, because a compiler may put an array into memory.
struct KeyLoads {
  a: vec4u,
  b: vec4u,
  c: vec4u,
  d: vec4u,
}

/// Two keys, LANES / 4 apart.
struct KeyPair {
  near: KeyLoads,
  far: KeyLoads,
}

/// Chunks of the row from `start`, every fourth; the last one again where there is no such chunk.
fn load_key(row: u32, start: u32, chunks: u32) -> KeyLoads {
  var key: KeyLoads;
  let at = row + start;
  let last = row + chunks - 1u;
  key.a = key_cache[min(at, last)];
  if (CHUNKS_AHEAD > 1u) {
    key.b = key_cache[min(at + 4u, last)];
  }
  if (CHUNKS_AHEAD > 2u) {
    key.c = key_cache[min(at + 8u, last)];
    key.d = key_cache[min(at + 12u, last)];
  }
  return key;
}

/// The token's own key, from workgroup memory.
fn own_key_loads(piece: Piece, start: u32, chunks: u32) -> KeyLoads {
  var key: KeyLoads;
  let at = piece.slot * most_chunks;
  key.a = own_key[at + min(start, chunks - 1u)];
  if (CHUNKS_AHEAD > 1u) {
    key.b = own_key[at + min(start + 4u, chunks - 1u)];
  }
  if (CHUNKS_AHEAD > 2u) {
    key.c = own_key[at + min(start + 8u, chunks - 1u)];
    key.d = own_key[at + min(start + 12u, chunks - 1u)];
  }
  return key;
}

/// Keys `key` and `key` + LANES / 4 of the piece; of the own one its neighbour.
fn load_keys(piece: Piece, key: u32, start: u32) -> KeyPair {
  let chunks = params.Dh / 8u;
  let last = max(piece.count, 1u) - 1u;
  let near = piece.first + min(key, last) * chunks;
  let far = piece.first + min(key + LANES / 4u, last) * chunks;
  return KeyPair(load_key(select(near, piece.other, near == piece.own), start, chunks),
                 load_key(select(far, piece.other, far == piece.own), start, chunks));
}

fn dot_chunk(chunk: vec4u, c: u32, query_at: u32, sum: f32) -> f32 {
  return fma_dot(high_half(chunk), query[query_at + 2u * c + 1u], fma_dot(low_half(chunk), query[query_at + 2u * c], sum));
}

fn dot_key(key: KeyLoads, start: u32, chunks: u32, query_at: u32, sum: f32) -> f32 {
  var total = sum;
  if (start < chunks) {
    total = dot_chunk(key.a, start, query_at, total);
  }
  if (CHUNKS_AHEAD > 1u && start + 4u < chunks) {
    total = dot_chunk(key.b, start + 4u, query_at, total);
  }
  if (CHUNKS_AHEAD > 2u && start + 8u < chunks) {
    total = dot_chunk(key.c, start + 8u, query_at, total);
  }
  if (CHUNKS_AHEAD > 2u && start + 12u < chunks) {
    total = dot_chunk(key.d, start + 12u, query_at, total);
  }
  return total;
}

/// Parts of the scores of the piece's keys, into `staged`.
fn score_parts(piece: Piece) {
  let chunks = params.Dh / 8u;
  let parts = piece.slot * 8u * value_pitch; // 4 of each key
  let q = piece.slot * (LANES / 4u);
  let part = piece.lane % 4u;
  for (var key = piece.lane / 4u; key < piece.count; key += LANES / 2u) {
    var sum = 0.0;
    var far_sum = 0.0;
    for (var start = part; start < chunks; start += 4u * CHUNKS_AHEAD) {
      var keys = load_keys(piece, key, start);
      if (piece.holds_own && key + 1u == piece.count) {
        keys.near = own_key_loads(piece, start, chunks);
      }
      if (piece.holds_own && key + LANES / 4u + 1u == piece.count) {
        keys.far = own_key_loads(piece, start, chunks);
      }
      sum = dot_key(keys.near, start, chunks, q, sum);
      far_sum = dot_key(keys.far, start, chunks, q, far_sum);
    }
    staged[parts + 4u * key + part] = sum;
    if (key + LANES / 4u < piece.count) {
      staged[parts + 4u * (key + LANES / 4u) + part] = far_sum;
    }
  }
}

/// Score of key `lane` of the piece; unused lanes get `lowest`.
fn piece_score(piece: Piece) -> f32 {
  if (piece.lane >= piece.count) {
    return lowest;
  }
  let first = piece.slot * 8u * value_pitch + 4u * piece.lane;
  return staged[first] + staged[first + 1u] + staged[first + 2u] + staged[first + 3u];
}

/// The largest of a slot's scores.
fn slot_maximum(score: f32, piece: Piece, lanes: u32) -> f32 {
  if (lanes <= LANES) { // subgroups lie within slots
    let of_subgroup = subgroupMax(score);
    let first = piece.slot * (LANES / 4u);
    if (piece.lane % lanes == 0u) {
      maxima[first + piece.lane / lanes] = of_subgroup;
    }
    workgroupBarrier();
    var largest_score = lowest;
    for (var i = 0u; i < LANES / lanes; i++) {
      largest_score = max(largest_score, maxima[first + i]);
    }
    return largest_score;
  }
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
    let sums = attend(piece, grid.lanes);
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
