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

// Element e of the rotated head that starts at `head`. No branches, so that loads of several elements are in flight together.
fn rotated(head: u32, e: u32) -> f32 {
  let half = params.Dh / 2u;
  let i = select(e - half, e, e < half);
  let low = qkv[head + i];
  let high = qkv[head + i + half];
  let angle = table[step.position * half + i];
  return select(rotated_high(low, high, angle), rotated_low(low, high, angle), e < half);
}

fn load_query(head: u32, lane: u32) {
  if (4u * lane >= params.Dh) {
    query[lane] = vec4f();
    return;
  }
  var four: vec4f;
  for (var e = 0u; e < 4u; e++) {
    four[e] = rotated(head, 4u * lane + e) * params.scale;
  }
  query[lane] = four;
}

fn load_own_key(head: u32, c: u32, is_writer: bool) {
  var elements: array<f32, 8>;
  for (var e = 0u; e < 8u; e++) {
    elements[e] = rotated(head, 8u * c + e);
  }
  let words = vec4u(pack2x16float(vec2f(elements[0], elements[1])), pack2x16float(vec2f(elements[2], elements[3])),
                    pack2x16float(vec2f(elements[4], elements[5])), pack2x16float(vec2f(elements[6], elements[7])));
  own_key[c] = words;
  if (is_writer) {
    key_cache[own_row / 4u + c] = words;
  }
}

fn load_own_value(head: u32, c: u32, is_writer: bool) {
  let v = head + 8u * c;
  let words = vec4u(pack2x16float(vec2f(qkv[v], qkv[v + 1u])), pack2x16float(vec2f(qkv[v + 2u], qkv[v + 3u])),
                    pack2x16float(vec2f(qkv[v + 4u], qkv[v + 5u])), pack2x16float(vec2f(qkv[v + 6u], qkv[v + 7u])));
  own_value[c] = words;
  if (is_writer) {
    value_cache[own_row / 4u + c] = words;
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
  let holds_own = keys - start <= LANES;
  let is_writer = h % queries_per_key == 0u;
  let chunks = params.Dh / 8u;
  let key_head = (params.H + kv) * params.Dh;
  // The first quarter of the lanes brings the query, the second and the third key and value.
  let quarter = lane / (LANES / 4u);
  let c = lane % (LANES / 4u);
  if (quarter == 0u) {
    load_query(h * params.Dh, lane);
  } else if (quarter == 1u && holds_own && c < chunks) {
    load_own_key(key_head, c, is_writer);
  } else if (quarter == 2u && holds_own && c < chunks) {
    load_own_value(key_head + params.Hkv * params.Dh, c, is_writer);
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
