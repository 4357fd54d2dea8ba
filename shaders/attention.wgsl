// Causal attention with grouped query heads, for prefill and decode:
//   out[t, h] = sum_j softmax_j(q[t, h] . k[j] / sqrt(Dh)) v[j],  j = 0 .. position + t,  kv head = h / (H / Hkv)
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (q rotated), key and value cache [Hkv, context, Dh/2] u32 (two halves each)
//   ->  out [T, H Dh] f32, or with SPLIT the partials [T, H, pieces, Dh + 2] f32: o[Dh], maximum m, sum l
//
// The keys are cut into pieces of P = LANES. Within a piece: m = max of the scores, l = sum exp(s - m),
// o = sum exp(s - m) v; pieces are joined in order (online softmax: Milakov and Gimelshein, 2018; split over workgroups:
// Flash-Decoding, Dao et al., 2023). One workgroup of LANES per (head x, token y) walks all pieces, or with SPLIT takes
// the piece z and leaves the joining to `attention_combine`, which does the same arithmetic: both give the same bits, for
// any T.
//
// A "chunk" is 8 elements of a cache row, one 16-byte load. Scores: 4 lanes per key, each with every fourth chunk, so
// that a key is read in runs of 64 bytes. Values: C = ceil(Dh / 8) neighbouring lanes read a row; floor(LANES / C) such
// groups take the keys in turn and are added in order. Float32 throughout.
// Preconditions: LANES a multiple of 16, Dh even and at most LANES, position + T <= context, keys and values of this
// pass already in the cache.

struct Params {
  H: u32,
  Hkv: u32,
  Dh: u32,
  context: u32,
  pieces: u32, // of the whole context: stride of the partials
  scale: f32, // 1 / sqrt(Dh)
}

struct Step {
  num_tokens: u32,
  position: u32,
}

override SPLIT: bool = false;
override ALIGNED: bool = true; // Dh is a multiple of 8: cache rows start at 16-byte boundaries
override LANES: u32 = 256; // of a workgroup, and keys of a piece
override value_pitch = LANES + 4u;

const lowest = -3.4e38;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<f32>; // [T, (H + 2 Hkv) Dh]
@group(0) @binding(3) var<storage, read> key_cache: array<vec4u>; // [Hkv, context, Dh/2] words
@group(0) @binding(4) var<storage, read> value_cache: array<vec4u>; // [Hkv, context, Dh/2] words
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [T, H, Dh] or partials

var<workgroup> query: array<vec4f, LANES / 4u>; // [Dh] scaled, 0 beyond
// First score parts [P keys, 4 lanes], then value sums [8 elements of a chunk, lane]: one array, because software
// adapters take compile time for every word of workgroup memory. Pitch: a subgroup's reads then fall into distinct banks.
var<workgroup> scratch: array<f32, 8u * value_pitch>;
var<workgroup> maxima: array<f32, 16>;
var<workgroup> scores: array<f32, LANES>; // scores, then exp(s - m)
var<workgroup> group_sums: array<f32, LANES>; // [groups] sums of exp(s - m)

fn key_word(row: u32, word: u32) -> u32 {
  let i = row + word;
  return select(0u, key_cache[i / 4u][i % 4u], word < params.Dh / 2u);
}

fn value_word(row: u32, word: u32) -> u32 {
  let i = row + word;
  return select(0u, value_cache[i / 4u][i % 4u], word < params.Dh / 2u);
}

// Chunk c of the cache row that starts at word `row`, 0 beyond Dh.
fn key_chunk(row: u32, c: u32) -> vec4u {
  if (ALIGNED) {
    return key_cache[row / 4u + c];
  }
  let w = 4u * c;
  return vec4u(key_word(row, w), key_word(row, w + 1u), key_word(row, w + 2u), key_word(row, w + 3u));
}

fn value_chunk(row: u32, c: u32) -> vec4u {
  if (ALIGNED) {
    return value_cache[row / 4u + c];
  }
  let w = 4u * c;
  return vec4u(value_word(row, w), value_word(row, w + 1u), value_word(row, w + 2u), value_word(row, w + 3u));
}

fn low_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.x), unpack2x16float(chunk.y));
}

fn high_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.z), unpack2x16float(chunk.w));
}

fn load_query(first: u32, lane: u32) {
  if (lane < LANES / 4u) {
    var four = vec4f();
    for (var e = 0u; e < 4u; e++) {
      if (4u * lane + e < params.Dh) {
        four[e] = qkv[first + 4u * lane + e] * params.scale;
      }
    }
    query[lane] = four;
  }
}

// Score of key `lane` of the piece whose first cache row starts at word `first`; unused lanes get `lowest`.
fn piece_score(first: u32, count: u32, lane: u32) -> f32 {
  let chunks = (params.Dh + 7u) / 8u;
  let half = params.Dh / 2u;
  for (var key = lane / 4u; key < count; key += LANES / 4u) {
    var sum = 0.0;
    for (var c = lane % 4u; c < chunks; c += 4u) {
      let chunk = key_chunk(first + key * half, c);
      sum += dot(low_half(chunk), query[2u * c]) + dot(high_half(chunk), query[2u * c + 1u]);
    }
    scratch[4u * key + lane % 4u] = sum;
  }
  workgroupBarrier();
  if (lane >= count) {
    return lowest;
  }
  let first_part = 4u * lane;
  return (scratch[first_part] + scratch[first_part + 1u]) + (scratch[first_part + 2u] + scratch[first_part + 3u]);
}

fn maximum(score: f32, lane: u32) -> f32 {
  scores[lane] = score;
  workgroupBarrier();
  if (lane < 16u) {
    var m = lowest;
    for (var i = lane; i < LANES; i += 16u) {
      m = max(m, scores[i]);
    }
    maxima[lane] = m;
  }
  workgroupBarrier();
  var m = lowest;
  for (var i = 0u; i < 16u; i++) {
    m = max(m, maxima[i]);
  }
  return m;
}

struct Piece {
  m: f32, // maximal score
  l: f32, // sum of exp(s - m)
  o: f32, // sum of exp(s - m) v[d], d = lane
}

// The piece of `count` keys whose rows start at word `first` of both caches. m and l are the same in every lane.
fn attend(first: u32, count: u32, lane: u32) -> Piece {
  workgroupBarrier(); // the query is loaded, the piece before is read
  let score = piece_score(first, count, lane);
  let m = maximum(score, lane);
  scores[lane] = exp(score - m);
  workgroupBarrier();
  let chunks = (params.Dh + 7u) / 8u;
  let groups = min(LANES / chunks, count);
  let group = lane / chunks;
  if (group < groups) {
    var low = vec4f();
    var high = vec4f();
    var sum = 0.0;
    for (var key = group; key < count; key += groups) {
      let chunk = value_chunk(first + key * (params.Dh / 2u), lane % chunks);
      let weight = scores[key];
      low = fma(vec4f(weight), low_half(chunk), low);
      high = fma(vec4f(weight), high_half(chunk), high);
      sum += weight;
    }
    for (var e = 0u; e < 4u; e++) {
      scratch[e * value_pitch + lane] = low[e];
      scratch[(e + 4u) * value_pitch + lane] = high[e];
    }
    if (lane % chunks == 0u) {
      group_sums[group] = sum;
    }
  }
  workgroupBarrier();
  let own = lane % 8u * value_pitch + lane / 8u % chunks;
  var piece = Piece(m, 0.0, 0.0);
  for (var g = 0u; g < groups; g++) {
    piece.l += group_sums[g];
    piece.o += scratch[own + g * chunks];
  }
  return piece;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = id.x;
  let t = id.y;
  let keys = step.position + t + 1u;
  if (t >= step.num_tokens || id.z * LANES >= keys) {
    return;
  }
  load_query((t * (params.H + 2u * params.Hkv) + h) * params.Dh, lane);
  let rows = h / (params.H / params.Hkv) * params.context;
  let end = select(keys, min(keys, (id.z + 1u) * LANES), SPLIT);
  var piece: Piece;
  var m = lowest;
  var l = 0.0;
  var o = 0.0;
  for (var start = id.z * LANES; start < end; start += LANES) {
    piece = attend((rows + start) * (params.Dh / 2u), min(LANES, end - start), lane);
    let joined = max(m, piece.m);
    let old_factor = exp(m - joined);
    let new_factor = exp(piece.m - joined);
    l = fma(l, old_factor, piece.l * new_factor);
    o = fma(o, old_factor, piece.o * new_factor);
    m = joined;
  }
  if (SPLIT) {
    let target_row = ((t * params.H + h) * params.pieces + id.z) * (params.Dh + 2u);
    if (lane < params.Dh) {
      out[target_row + lane] = piece.o;
    }
    if (lane == 0u) {
      out[target_row + params.Dh] = piece.m;
      out[target_row + params.Dh + 1u] = piece.l;
    }
  } else if (lane < params.Dh) {
    out[(t * params.H + h) * params.Dh + lane] = o / l;
  }
}
