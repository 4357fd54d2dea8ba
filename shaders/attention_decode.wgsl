// Decode's attention with rotation and KV append in front (as rope_append, then attention with SPLIT): the token's query
// is rotated, its key rotated, and key and value stored as halves at `position`; then each piece of keys is attended.
//   out[h, p] = (o[Dh], m, l) of query h over keys p P .. min((p + 1) P, position + 1) - 1,  kv head = h / (H / Hkv)
//
//   qkv [(H + 2 Hkv) Dh] f32 (not rotated), table [context, Dh/2] (cos, sin), key and value cache [Hkv, context, Dh/2] u32
//   ->  partials [H, pieces, Dh + 2] f32, and the caches' row `position`
//
// One workgroup of LANES = P per (head x, piece z). The token's own key and value are read from workgroup memory, where
// the workgroup that needs them made them; the first query head of each kv head also writes them to the cache, which no
// workgroup reads there in this dispatch.
// Preceded by rope.wgsl, attention_join.wgsl and attention_piece.wgsl. Preconditions: Dh a multiple of 8 and at most LANES,
// position < context, one token.

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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<f32>; // [(H + 2 Hkv) Dh]
@group(0) @binding(3) var<storage, read> table: array<vec2f>; // [context, Dh/2] (cos, sin)
@group(0) @binding(4) var<storage, read_write> key_cache: array<vec4u>; // [Hkv, context, Dh/2] words
@group(0) @binding(5) var<storage, read_write> value_cache: array<vec4u>; // [Hkv, context, Dh/2] words
@group(0) @binding(6) var<storage, read_write> partials: array<f32>; // [H, pieces, Dh + 2]

const max_chunks = 32u; // Dh <= 256
var<workgroup> own_key: array<vec4u, max_chunks>;
var<workgroup> own_value: array<vec4u, max_chunks>;
var<private> own_row: u32; // word at which the token's cache row starts
var<private> other_row: u32; // and that of a neighbour, read in its place: no branch around a load, no race with the writer

fn key_chunk(row: u32, c: u32) -> vec4u {
  let is_own = row == own_row;
  return select(key_cache[select(row, other_row, is_own) / 4u + c], own_key[c], is_own);
}

fn value_chunk(row: u32, c: u32) -> vec4u {
  let is_own = row == own_row;
  return select(value_cache[select(row, other_row, is_own) / 4u + c], own_value[c], is_own);
}

// Element e of the rotated head that starts at `head`.
fn rotated(head: u32, e: u32) -> f32 {
  let half = params.Dh / 2u;
  let angles = step.position * half;
  if (e < half) {
    return rotated_low(qkv[head + e], qkv[head + e + half], table[angles + e]);
  }
  return rotated_high(qkv[head + e - half], qkv[head + e], table[angles + e - half]);
}

fn load_query(head: u32, lane: u32) {
  if (lane < LANES / 4u) {
    var four = vec4f();
    for (var e = 0u; e < 4u; e++) {
      if (4u * lane + e < params.Dh) {
        four[e] = rotated(head, 4u * lane + e) * params.scale;
      }
    }
    query[lane] = four;
  }
}

fn load_own(key_head: u32, value_head: u32, is_writer: bool, lane: u32) {
  let chunks = params.Dh / 8u;
  let c = lane % chunks;
  var words: vec4u;
  if (lane < chunks) {
    for (var i = 0u; i < 4u; i++) {
      let e = 8u * c + 2u * i;
      words[i] = pack2x16float(vec2f(rotated(key_head, e), rotated(key_head, e + 1u)));
    }
    own_key[c] = words;
    if (is_writer) {
      key_cache[own_row / 4u + c] = words;
    }
  } else if (lane < 2u * chunks) {
    for (var i = 0u; i < 4u; i++) {
      let v = value_head + 8u * c + 2u * i;
      words[i] = pack2x16float(vec2f(qkv[v], qkv[v + 1u]));
    }
    own_value[c] = words;
    if (is_writer) {
      value_cache[own_row / 4u + c] = words;
    }
  }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = id.x;
  let start = id.z * LANES;
  let keys = step.position + 1u;
  if (start >= keys) {
    return;
  }
  let queries_per_key = params.H / params.Hkv;
  let kv = h / queries_per_key;
  let rows = kv * params.context;
  own_row = (rows + step.position) * (params.Dh / 2u);
  other_row = select(own_row - params.Dh / 2u, own_row + params.Dh / 2u, step.position == 0u);
  load_query(h * params.Dh, lane);
  if (keys - start <= LANES) {
    let key_head = (params.H + kv) * params.Dh;
    load_own(key_head, key_head + params.Hkv * params.Dh, h % queries_per_key == 0u, lane);
  }
  let piece = attend((rows + start) * (params.Dh / 2u), min(LANES, keys - start), lane);
  let target_row = (h * params.pieces + id.z) * (params.Dh + 2u);
  if (lane < params.Dh) {
    partials[target_row + lane] = piece.o;
  }
  if (lane == 0u) {
    partials[target_row + params.Dh] = piece.m;
    partials[target_row + params.Dh + 1u] = piece.l;
  }
}
