// What attention_tiled.wgsl lays into workgroup memory (this file is put in front of it; behind the cache's layout and
// attention_join.wgsl): bindings, loads from memory and the stores behind them.

struct Params {
  H: u32,
  Hkv: u32,
  context: u32,
  scale: f32, // 1 / sqrt(Dh)
}

struct Step {
  num_tokens: u32,
  position: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<vec4f>; // [T, (H + 2 Hkv), Dh / 4]
@group(0) @binding(3) var<storage, read> key_cache: array<Chunk>; // [Hkv, context, 16 chunks]
@group(0) @binding(4) var<storage, read> value_cache: array<Chunk>; // [Hkv, context, 16 chunks]
@group(0) @binding(5) var<storage, read_write> out: array<vec4f>; // [T, H, Dh / 4]

const scales_binding = 6u;
const queries = 32u;
const piece_keys = 256u;
const chunks = 16u;
const fours = 32u; // vec4 of a head
const groups = 16u; // of keys whose values are added apart
const members = 16u; // keys of a group, of a piece

// One array for what is needed in turn (vec4 each): the score step's keys [2 halves of a chunk][256] and queries [8 elements][8 a];
// then maxima [8 a][32 b] and of each query [8 a][4]; then a group's values [16 members][2 halves][16 chunks], what they are multiplied by [16][8 a] and,
// of scaled rows, weights and weighted minima [16][8 a].
const queries_at = 512u;
const part_maxima_at = 256u;
const factors_at = 512u;
const weights_at = select(factors_at, 640u, scaled);
const minima_at = 768u;
const tile_words = select(640u, 896u, scaled);
var<workgroup> tile: array<vec4f, tile_words>;
var<workgroup> weight_sums: array<f32, queries>; // of a piece, its groups added up in order
var<workgroup> minimum_sums: array<f32, queries>; // of weighted minima, likewise
var<workgroup> query_sums: array<vec4f, 8>; // [8 a] of scaled rows' queries

/// Chunk c of this lane's key, 0 behind the piece.
fn load_key(first: u32, count: u32, c: u32, lane: u32) -> Chunk {
  if (lane >= count) {
    return Chunk();
  }
  return key_cache[(first + lane) * chunks + c];
}

/// Half of chunk c of a query, for the first 64 lanes.
fn load_query(first_token: u32, h: u32, c: u32, lane: u32) -> vec4f {
  if (lane >= 2u * queries) {
    return vec4f();
  }
  let token = min(first_token + lane / 2u, step.num_tokens - 1u);
  return qkv[(token * (params.H + 2u * params.Hkv) + h) * fours + 2u * c + lane % 2u] * params.scale;
}

/// Lays down a chunk of keys as it is, and one of queries transposed, elements first.
fn stage_scores(chunk: Chunk, query: vec4f, lane: u32) {
  tile[lane] = low_half(chunk);
  tile[piece_keys + lane] = high_half(chunk);
  if (lane < 2u * queries) {
    for (var e = 0u; e < 4u; e++) {
      tile[queries_at + (4u * (lane % 2u) + e) * 8u + lane / 8u][lane / 2u % 4u] = query[e];
    }
  }
}

/// The i-th chunk of a part of the scores.
fn walked(part: u32, i: u32) -> u32 {
  return (i / chunks_per_load * 4u + part) * chunks_per_load + i % chunks_per_load;
}

/// This lane's chunk of the 16 values of group g of a piece of `count` keys.
fn load_value(first: u32, count: u32, g: u32, lane: u32) -> Chunk {
  let key = g + groups * (lane / chunks);
  if (key >= count) {
    return Chunk();
  }
  return value_cache[(first + key) * chunks + lane % chunks];
}

fn stage_value(chunk: Chunk, lane: u32) {
  let at = fours * (lane / chunks) + lane % chunks;
  tile[at] = low_half(chunk);
  tile[at + chunks] = high_half(chunk);
}

/// What a group's values are multiplied by, for its member i and the queries 4a ..; `value` is the row's step and minimum.
fn stage_weight(i: u32, a: u32, weight: vec4f, value: vec2f) {
  tile[weights_at + 8u * i + a] = weight;
  if (scaled) {
    tile[factors_at + 8u * i + a] = weight * value.x;
    tile[minima_at + 8u * i + a] = weight * value.y;
  }
}

/// Sum over a group's members of what lies at `source` for one query.
fn member_sum(source: u32, query: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < members; i++) {
    sum += tile[source + 8u * i + query / 4u][query % 4u];
  }
  return sum;
}

/// Adds group g's weights, and weighted minima, to the piece's: 32 lanes of the workgroup, others for each group.
fn add_group_sums(g: u32, lane: u32) {
  let query = lane % queries;
  if (lane / queries == g % 8u) {
    weight_sums[query] = select(weight_sums[query], 0.0, g == 0u) + member_sum(weights_at, query);
  }
  if (scaled && lane / queries == (g + 4u) % 8u) {
    minimum_sums[query] = select(minimum_sums[query], 0.0, g == 0u) + member_sum(minima_at, query);
  }
}

/// Sums of the queries, in the order of attention_piece.wgsl.
fn sum_queries(first_token: u32, h: u32, lane: u32) {
  if (lane < queries) {
    let token = min(first_token + lane, step.num_tokens - 1u);
    let first = (token * (params.H + 2u * params.Hkv) + h) * fours;
    var sum = vec4f();
    for (var word = 0u; word < fours; word++) {
      sum += rounded_four(qkv[first + word] * params.scale);
    }
    query_sums[lane / 4u][lane % 4u] = (sum.x + sum.y) + (sum.z + sum.w);
  }
  workgroupBarrier();
}
