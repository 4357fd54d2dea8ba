// Part of the persistent decode kernel: rotation, KV append and attention of one token with the sums of attention_decode, in
// their order: same bits. Pieces of LANES keys are dealt to the workgroups in turn; then the heads are dealt in the same way,
// and their pieces joined as attention_combine does.
//   out[h] = sum_k softmax(q . key_k * scale) value_k,   kv head = h / (H / Hkv)
// As persistent_attention.wgsl, but all WORKGROUP lanes work on one piece: four on a key, and four elements of a row of values each.
// Preceded by persistent_crossing.wgsl, persistent_quantize.wgsl (staged), attention_join.wgsl and rope.wgsl. Preconditions: Dh a
// multiple of 8 and at most LANES and 256; WORKGROUP a multiple of LANES; subgroups in the order of invocations; staged of
// 4 value_pitch floats.

override LANES: u32 = 256; // keys of a piece
override KEYS_EARLY: bool = false; // a piece's first keys are loaded before the query is there
override value_pitch = 2u * LANES + 8u;

@group(0) @binding(7) var<storage, read_write> key_cache: array<vec4u>; // [layers, Hkv, context, Dh/8] eight halves
@group(0) @binding(8) var<storage, read_write> value_cache: array<vec2u>; // [layers, Hkv, context, Dh/4] four halves

const most_quads = 64u; // Dh <= 256

var<workgroup> own_key: array<vec2u, most_quads>; // four halves each
var<workgroup> own_value: array<vec2u, most_quads>;
var<workgroup> query: array<vec4f, most_quads>; // scaled
var<workgroup> maxima: array<f32, WORKGROUP / 4u>; // of subgroups
var<workgroup> scores: array<f32, LANES>;
var<workgroup> weights: array<f32, LANES>; // exp(s - m)
var<workgroup> group_sums: array<f32, LANES>;

/// One piece of one head.
struct Piece {
  head: u32,
  index: u32,
  count: u32, // its keys, not 0
  first: u32, // 16-byte chunk where its keys start in the caches
  own: u32, // and where the token's own row does
  other: u32, // a neighbour's, read in its place: no branch around a load, no race with the writer
  holds_own: bool,
}

fn piece_of(item: u32, layer: u32) -> Piece {
  let keys = step.position + 1u;
  let chunks = params.Dh / 8u;
  let head = item % params.H;
  let index = item / params.H;
  let rows = layer * params.layer_chunks + head / (params.H / params.Hkv) * params.context * chunks;
  let own = rows + step.position * chunks;
  let other = select(own - chunks, own + chunks, step.position == 0u);
  let count = min(LANES, keys - index * LANES);
  return Piece(head, index, count, rows + index * LANES * chunks, own, other, index * LANES + count == keys);
}

fn low_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.x), unpack2x16float(chunk.y));
}

fn high_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.z), unpack2x16float(chunk.w));
}

fn four_halves(four: vec4f) -> vec2u {
  return vec2u(pack2x16float(four.xy), pack2x16float(four.zw));
}

// acc + a . b as one chain.
fn fma_dot(a: vec4f, b: vec4f, acc: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}

/// Four 16-byte loads; named, because a compiler may put an array into memory.
struct Four {
  a: vec4u,
  b: vec4u,
  c: vec4u,
  d: vec4u,
}

/// Of two of a lane's keys.
struct Keys {
  near: Four,
  far: Four, // of the key WORKGROUP / 4 on
}

/// Every fourth chunk of a cache row from `start`; beyond the row's `chunks` the last one again.
fn load_four(row: u32, start: u32, chunks: u32) -> Four {
  return Four(key_cache[row + min(start, chunks - 1u)], key_cache[row + min(start + 4u, chunks - 1u)],
              key_cache[row + min(start + 8u, chunks - 1u)], key_cache[row + min(start + 12u, chunks - 1u)]);
}

/// Chunks of keys `key` and, where there is such a key, WORKGROUP / 4 on; a neighbour's in place of the token's own.
fn load_keys(piece: Piece, key: u32, start: u32) -> Keys {
  let chunks = params.Dh / 8u;
  let near_row = piece.first + min(key, piece.count - 1u) * chunks;
  let far_row = piece.first + min(key + WORKGROUP / 4u, piece.count - 1u) * chunks;
  var keys: Keys;
  if (key < piece.count) {
    keys.near = load_four(select(near_row, piece.other, near_row == piece.own), start, chunks);
    keys.far = load_four(select(far_row, piece.other, far_row == piece.own), start, chunks);
  }
  return keys;
}

/// The piece's query, rotated and scaled, into `query`, and where the piece ends with the token's own key and value these into
/// `own_key` and `own_value`.
fn stage_own(piece: Piece, qkv_at: u32, place: Place) {
  let quads = params.Dh / 8u; // of half a head
  let half = params.Dh / 2u;
  let part = place.local / quads;
  if (part >= select(1u, 3u, piece.holds_own)) {
    return;
  }
  let j = place.local % quads;
  var angle: array<vec2f, 4>;
  for (var e = 0u; e < 4u; e++) {
    angle[e] = angles[step.position * half + 4u * j + e];
  }
  let kv_head = params.H + piece.head / (params.H / params.Hkv);
  let head = select(select(kv_head + params.Hkv, kv_head, part == 1u), piece.head, part == 0u);
  var at: array<u32, 8>;
  for (var e = 0u; e < 4u; e++) {
    at[e] = qkv_at + head * params.Dh + 4u * j + e;
    at[4u + e] = at[e] + half;
  }
  let found = await_few(at, 8u);
  var low: vec4f;
  var high: vec4f;
  for (var e = 0u; e < 4u; e++) {
    low[e] = select(rotated_low(found[e], found[4u + e], angle[e]), found[e], part == 2u);
    high[e] = select(rotated_high(found[e], found[4u + e], angle[e]), found[4u + e], part == 2u);
  }
  if (part == 0u) {
    query[j] = low * params.attention_scale;
    query[quads + j] = high * params.attention_scale;
  } else if (part == 1u) {
    own_key[j] = four_halves(low);
    own_key[quads + j] = four_halves(high);
  } else {
    own_value[j] = four_halves(low);
    own_value[quads + j] = four_halves(high);
  }
}

/// The token's own row into the caches.
fn append_own(piece: Piece, place: Place) {
  let chunks = params.Dh / 8u;
  if (!piece.holds_own || piece.head % (params.H / params.Hkv) != 0u) {
    return;
  }
  if (place.local < chunks) {
    key_cache[piece.own + place.local] = vec4u(own_key[2u * place.local], own_key[2u * place.local + 1u]);
  }
  if (place.local < 2u * chunks) {
    value_cache[2u * piece.own + place.local] = own_value[place.local];
  }
}

fn own_chunk(c: u32) -> vec4u {
  let at = 2u * min(c, params.Dh / 8u - 1u);
  return vec4u(own_key[at], own_key[at + 1u]);
}

fn own_four(start: u32) -> Four {
  return Four(own_chunk(start), own_chunk(start + 4u), own_chunk(start + 8u), own_chunk(start + 12u));
}

fn dot_chunk(chunk: vec4u, c: u32, sum: f32) -> f32 {
  if (8u * c >= params.Dh) {
    return sum;
  }
  return fma_dot(high_half(chunk), query[2u * c + 1u], fma_dot(low_half(chunk), query[2u * c], sum));
}

fn dot_four(four: Four, start: u32, sum: f32) -> f32 {
  let two = dot_chunk(four.b, start + 4u, dot_chunk(four.a, start, sum));
  return dot_chunk(four.d, start + 12u, dot_chunk(four.c, start + 8u, two));
}

/// A key's score from the parts of its four lanes, in all of them.
fn whole_score(part: f32, lane: u32) -> f32 {
  let quad = lane - lane % 4u;
  return subgroupShuffle(part, quad) + subgroupShuffle(part, quad + 1u) + subgroupShuffle(part, quad + 2u)
    + subgroupShuffle(part, quad + 3u);
}

/// Scores of the piece's keys into `scores`, and the largest of each subgroup into `maxima`.
fn score_keys(piece: Piece, first: Keys, place: Place, grid: Grid) {
  let chunks = params.Dh / 8u;
  let part = place.local % 4u;
  var m = lowest;
  for (var base = 0u; base < piece.count; base += WORKGROUP / 2u) {
    let key = base + place.local / 4u;
    let far_key = key + WORKGROUP / 4u;
    var sum = 0.0;
    var far_sum = 0.0;
    for (var start = 0u; start < chunks; start += 16u) {
      var keys = first;
      if (!KEYS_EARLY || base + start > 0u) {
        keys = load_keys(piece, key, start + part);
      }
      if (piece.first + key * chunks == piece.own) {
        keys.near = own_four(start + part);
      }
      if (piece.first + far_key * chunks == piece.own) {
        keys.far = own_four(start + part);
      }
      sum = dot_four(keys.near, start + part, sum);
      far_sum = dot_four(keys.far, start + part, far_sum);
    }
    let score = whole_score(sum, place.lane);
    let far_score = whole_score(far_sum, place.lane);
    if (key < piece.count) {
      scores[key] = score;
      m = max(m, score);
    }
    if (far_key < piece.count) {
      scores[far_key] = far_score;
      m = max(m, far_score);
    }
  }
  m = subgroupMax(m);
  if (place.lane == 0u) {
    maxima[place.local / grid.lanes] = m;
  }
}

fn largest_score(place: Place, grid: Grid) -> f32 {
  var m = lowest;
  for (var i = place.lane; i < WORKGROUP / grid.lanes; i += grid.lanes) {
    m = max(m, maxima[i]);
  }
  return subgroupMax(m);
}

/// Four elements each of eight of the keys that a unit adds up, one group's step apart.
struct Values {
  a: vec2u,
  b: vec2u,
  c: vec2u,
  d: vec2u,
  e: vec2u,
  f: vec2u,
  g: vec2u,
  h: vec2u,
}

/// The four elements `quad` of key `key`; of the last key beyond, of a neighbour in place of the token's own.
fn value_quad(piece: Piece, key: u32, quad: u32) -> vec2u {
  let row = piece.first + min(key, piece.count - 1u) * (params.Dh / 8u);
  return value_cache[2u * select(row, piece.other, row == piece.own) + quad];
}

fn load_values(piece: Piece, groups: u32, key: u32, quad: u32) -> Values {
  var values: Values;
  if (key < piece.count) {
    values.a = value_quad(piece, key, quad);
    values.b = value_quad(piece, key + groups, quad);
    values.c = value_quad(piece, key + 2u * groups, quad);
    values.d = value_quad(piece, key + 3u * groups, quad);
    values.e = value_quad(piece, key + 4u * groups, quad);
    values.f = value_quad(piece, key + 5u * groups, quad);
    values.g = value_quad(piece, key + 6u * groups, quad);
    values.h = value_quad(piece, key + 7u * groups, quad);
  }
  return values;
}

struct ValueSums {
  four: vec4f,
  weights: f32,
}

fn add_value(sums: ValueSums, piece: Piece, key: u32, quad: u32, two: vec2u) -> ValueSums {
  if (key >= piece.count) {
    return sums;
  }
  var value = two;
  if (piece.first + key * (params.Dh / 8u) == piece.own) {
    value = own_value[quad];
  }
  let weight = weights[key];
  let elements = vec4f(unpack2x16float(value.x), unpack2x16float(value.y));
  return ValueSums(fma(vec4f(weight), elements, sums.four), sums.weights + weight);
}

/// Sums of exp(s - m) v over the keys of each group, into `staged` and `group_sums`; `first` are this lane's first values.
fn sum_values(piece: Piece, groups: u32, first: Values, place: Place) {
  let quads = params.Dh / 4u;
  for (var unit = place.local; unit < groups * quads; unit += WORKGROUP) {
    let quad = unit % quads;
    var sums: ValueSums;
    for (var key = unit / quads; key < piece.count; key += 8u * groups) {
      var values = first;
      if (unit >= WORKGROUP || key >= 8u * groups) {
        values = load_values(piece, groups, key, quad);
      }
      sums = add_value(sums, piece, key, quad, values.a);
      sums = add_value(sums, piece, key + groups, quad, values.b);
      sums = add_value(sums, piece, key + 2u * groups, quad, values.c);
      sums = add_value(sums, piece, key + 3u * groups, quad, values.d);
      sums = add_value(sums, piece, key + 4u * groups, quad, values.e);
      sums = add_value(sums, piece, key + 5u * groups, quad, values.f);
      sums = add_value(sums, piece, key + 6u * groups, quad, values.g);
      sums = add_value(sums, piece, key + 7u * groups, quad, values.h);
    }
    for (var e = 0u; e < 4u; e++) {
      staged[e * value_pitch + unit] = sums.four[e];
    }
    if (quad == 0u) {
      group_sums[unit / quads] = sums.weights;
    }
  }
}

struct Sums {
  m: f32, // maximal score
  l: f32, // sum of exp(s - m)
  o: f32, // sum of exp(s - m) v[d], d = lane
}

/// Sums over the groups, in order.
fn sum_groups(groups: u32, m: f32, place: Place) -> Sums {
  let quads = params.Dh / 4u;
  let own = place.local % 4u * value_pitch + place.local / 4u % quads;
  var sums = Sums(m, 0.0, 0.0);
  for (var start = 0u; start < groups; start += 8u) {
    var of_groups: array<f32, 8>;
    var parts: array<f32, 8>;
    for (var i = 0u; i < 8u; i++) {
      let g = min(start + i, groups - 1u);
      of_groups[i] = group_sums[g];
      parts[i] = staged[own + g * quads];
    }
    for (var i = 0u; i < 8u; i++) {
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
      at[3u * i + 2u] = row + plane_word(d, params.Dh);
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
fn publish_piece(piece: Piece, sums: Sums, partials_at: u32, place: Place) {
  let row = partials_at + (piece.head * params.pieces + piece.index) * (params.Dh + 2u);
  if (place.local < params.Dh) {
    publish(row + plane_word(place.local, params.Dh), sums.o);
  }
  if (place.local == 0u) {
    publish(row + params.Dh, sums.m);
    publish(row + params.Dh + 1u, sums.l);
  }
}

fn publish_attended(attended_at: u32, head: u32, d: u32, sums: Sums) {
  publish(attended_at + plane_word(head * params.Dh + d, params.H * params.Dh), sums.o / sums.l);
}

/// Attention of all heads over the keys up to and with the token's own.
fn attend_heads(layer: u32, place: Place, grid: Grid) {
  let count = (step.position + LANES) / LANES;
  let items = params.H * count;
  let quads = params.Dh / 4u;
  let attended_at = layer_at(layer) + params.attended_at;
  let partials_at = layer_at(layer) + params.partials_at;
  for (var item = grid.group; item < items; item += grid.groups) {
    let piece = piece_of(item, layer);
    var keys: Keys;
    if (KEYS_EARLY) {
      keys = load_keys(piece, place.local / 4u, place.local % 4u);
    }
    stage_own(piece, layer_at(layer), place);
    workgroupBarrier();
    append_own(piece, place);
    score_keys(piece, keys, place, grid);
    let groups = min(LANES / (params.Dh / 8u), piece.count);
    let values = load_values(piece, groups, place.local / quads, place.local % quads); // before the scores are there
    workgroupBarrier();
    let m = largest_score(place, grid);
    if (place.local < piece.count) {
      weights[place.local] = exp(scores[place.local] - m);
    }
    workgroupBarrier();
    sum_values(piece, groups, values, place);
    workgroupBarrier();
    let sums = sum_groups(groups, m, place);
    if (count > 1u) {
      publish_piece(piece, sums, partials_at, place);
    } else if (place.local < params.Dh) {
      publish_attended(attended_at, piece.head, place.local, with_piece(Sums(lowest, 0.0, 0.0), sums));
    }
  }
  if (count > 1u) {
    workgroupBarrier(); // see await_few
    let slots = WORKGROUP / params.Dh;
    let slot = place.local / params.Dh;
    for (var head = grid.group + slot * grid.groups; slot < slots && head < params.H; head += slots * grid.groups) {
      let pieces_at = partials_at + head * params.pieces * (params.Dh + 2u);
      publish_attended(attended_at, head, place.local % params.Dh, join_pieces(pieces_at, place.local % params.Dh, count));
    }
  }
}
