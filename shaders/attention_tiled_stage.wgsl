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
@group(0) @binding(3) var<storage, read> key_cache: array<vec4u>; // [Hkv, context, 16 chunks], by whole loads
@group(0) @binding(4) var<storage, read> value_cache: array<Chunk>; // [Hkv, context, 16 chunks]
@group(0) @binding(5) var<storage, read_write> out: array<vec4f>; // [T, H, Dh / 4]

const scales_binding = 6u;
const lanes = 128u; // of a workgroup
const queries = 32u;
const query_fours = 8u;
const piece_keys = 256u;
const half_keys = 128u; // whose scores are computed together
const chunks = 16u;
const fours = 32u; // vec4 of a head
const groups = 16u; // of keys whose values are added apart
const half_members = 8u; // keys of a group, of half a piece

// Two buffers: one is filled while the other is read. What is needed in turn, vec4 each: a score step's keys [2 halves of a
// chunk][128] and queries [8 elements][8 fours]; maxima (buffer 0) and sums (buffer 1) [16 groups][8 fours], then those of
// weighted minima; a value step's values [8 members][2 halves][16 chunks] and what they are multiplied by [8 members][8 fours].
const factors_at = 256u; // of queries, too
const minima_at = 128u;
const buffer_words = 320u;
var<workgroup> tile: array<array<vec4f, buffer_words>, 2>;
var<workgroup> factors_so_far: array<vec4f, query_fours>; // of join_factors; at the end each query's l
var<workgroup> factors_of_piece: array<vec4f, query_fours>; // likewise; at the end z
var<workgroup> query_sums: array<vec4f, query_fours>; // of scaled rows' queries

/// What a workgroup works on.
struct Work {
  h: u32,
  first_token: u32, // of 32
  first: u32, // row of the piece's first key
  start: u32, // its position
  count: u32, // keys of the piece
}

/// What a lane has loaded for its next store.
struct Ahead {
  keys: vec4u,
  query: vec4f,
}

/// Step n of a piece's scores is chunk n % 4 of part n / 4 % 4 of the keys' half n / 16. The load with this lane's key's.
fn load_keys(work: Work, n: u32, lane: u32) -> vec4u {
  let key = n / 16u * half_keys + lane;
  if (key >= work.count) {
    return vec4u();
  }
  return key_cache[(work.first + key) * (chunks / chunks_per_load) + n % 4u / chunks_per_load * 4u + n / 4u % 4u];
}

/// Half of a query's chunk of step n, for the first 64 lanes.
fn load_query(work: Work, n: u32, lane: u32) -> vec4f {
  if (lane >= 2u * queries) {
    return vec4f();
  }
  let token = min(work.first_token + lane / 2u, step.num_tokens - 1u);
  let i = n % 4u;
  let chunk = (i / chunks_per_load * 4u + n / 4u % 4u) * chunks_per_load + i % chunks_per_load;
  return qkv[(token * (params.H + 2u * params.Hkv) + work.h) * fours + 2u * chunk + lane % 2u] * params.scale;
}

/// Lays down what step n needs, keys as they are and queries transposed, elements first; loads what the next one needs.
fn stage_scores(buffer: u32, n: u32, work: Work, ahead: Ahead, lane: u32) -> Ahead {
  let chunk = chunk_of(ahead.keys, n % chunks_per_load);
  tile[buffer][lane] = low_half(chunk);
  tile[buffer][half_keys + lane] = high_half(chunk);
  if (lane < 2u * queries) {
    for (var e = 0u; e < 4u; e++) {
      tile[buffer][factors_at + (4u * (lane % 2u) + e) * query_fours + lane / 8u][lane / 2u % 4u] = ahead.query[e];
    }
  }
  var next = Ahead(ahead.keys, load_query(work, n + 1u, lane));
  if ((n + 1u) % chunks_per_load == 0u) {
    next.keys = load_keys(work, n + 1u, lane);
  }
  return next;
}

/// Step n of a piece's values is half n % 2 of the members of group n / 2; behind the last one there is nothing to load.
fn load_value(work: Work, n: u32, lane: u32) -> Chunk {
  let key = n / 2u + groups * (half_members * (n % 2u) + lane / chunks);
  if (key >= work.count || n >= 2u * groups) {
    return Chunk();
  }
  return value_cache[(work.first + key) * chunks + lane % chunks];
}

fn stage_value(buffer: u32, chunk: Chunk, lane: u32) {
  let at = fours * (lane / chunks) + lane % chunks;
  tile[buffer][at] = low_half(chunk);
  tile[buffer][at + chunks] = high_half(chunk);
}

/// What eight members of a group are multiplied by, for the queries 4 four ..
fn stage_factors(buffer: u32, four: u32, low: mat4x4f, high: mat4x4f) {
  let at = factors_at + four;
  for (var i = 0u; i < 4u; i++) {
    tile[buffer][at + query_fours * i] = low[i];
    tile[buffer][at + query_fours * (i + 4u)] = high[i];
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
