// Causal attention for prefill, 32 queries of one head a workgroup, the same bits as `attention` for every token:
//   out[t, h] = sum_j softmax_j(q[t, h] . k[j] / sqrt(Dh)) v[j],  j = 0 .. position + t,  kv head = h / (H / Hkv)
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (q rotated), key and value cache [Hkv, context, row] as kv_*.wgsl lay it out
//   ->  out [T, H Dh] f32.   Dh = 128, pieces of 256 keys, float32 throughout.
//
// Keys and values are read once for 32 queries (FlashAttention: Dao et al., 2022), yet every sum runs in the order that
// `attention` gives it. Scores: a key's 16 chunks of 8 elements make four parts (every fourth 16-byte load), each one chain of
// fma, parts added in order; so the chunks are walked part by part and two registers a score suffice. Values: 16
// groups of keys (g, g + 16, ... of the piece), each a chain of fma, groups added in order; so a tile is the 16 keys of
// one group. Pieces are joined as there.
// 256 invocations. For scores, invocation (a, b), 8 x 32, owns queries 4a .. 4a + 3 and keys 4b .. 4b + 3 and
// 128 + 4b .. 128 + 4b + 3 of the piece, kept in registers until their group's turn. For values it owns the same queries
// and elements 4b .. 4b + 3. A subgroup of 32 covers 4 x 8 of these, so that its reads of workgroup memory are few.
// What a step stages was loaded into registers during the step before. A key that a query must not see has weight 0, which changes no sum; rows behind the pass are taken as 0.
// Steps and minima of quantized rows are applied as attention_piece.wgsl says.
// Preceded by the cache's layout and attention_join.wgsl. Preconditions: position + T <= context, keys and values of this pass already in the cache.

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

// One array for what is needed in turn (vec4 each): the score step's keys [8 elements][64] and queries [8 elements][8];
// then maxima [4 queries a][32 b]; then values [16 keys][32 fours], what they are multiplied by [16 keys][8 a] and, of scaled
// rows, weights and weighted minima [16 keys][8 a].
const queries_at = 512u;
const factors_at = 512u;
const weights_at = select(factors_at, 640u, scaled);
const minima_at = 768u;
const tile_words = select(640u, 896u, scaled);
var<workgroup> tile: array<vec4f, tile_words>;
var<workgroup> group_sums: array<vec4f, 16>; // [8 a] sums of one group's weights, 4 queries each; [8 a] of weighted minima
var<workgroup> query_sums: array<vec4f, 8>; // [8 a] of scaled rows' queries

fn put_key(element: u32, key: u32, value: f32) {
  tile[element * 64u + key / 4u][key % 4u] = value;
}

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

/// Lays a chunk of keys and of queries into workgroup memory, transposed: elements first.
fn stage_scores(chunk: Chunk, query: vec4f, lane: u32) {
  let low = low_half(chunk);
  let high = high_half(chunk);
  for (var e = 0u; e < 4u; e++) {
    put_key(e, lane, low[e]);
    put_key(e + 4u, lane, high[e]);
  }
  if (lane < 2u * queries) {
    for (var e = 0u; e < 4u; e++) {
      tile[queries_at + (4u * (lane % 2u) + e) * 8u + lane / 8u][lane / 2u % 4u] = query[e];
    }
  }
}

/// This lane's chunk of the 16 values of group g of a piece of `count` keys.
fn load_value(first: u32, count: u32, g: u32, lane: u32) -> Chunk {
  let key = g + groups * (lane / chunks);
  if (key >= count) {
    return Chunk();
  }
  return value_cache[(first + key) * chunks + lane % chunks];
}

/// The i-th chunk of a part of the scores.
fn walked(part: u32, i: u32) -> u32 {
  return (i / chunks_per_load * 4u + part) * chunks_per_load + i % chunks_per_load;
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

/// Steps (x) and minima (y) of four rows' keys or values from `key` of the piece; rows behind it as the last one.
struct FourScales {
  steps: vec4f,
  minima: vec4f,
}

fn four_key_scales(first: u32, count: u32, key: u32) -> FourScales {
  let x = key_scale(first + min(key, count - 1u));
  let y = key_scale(first + min(key + 1u, count - 1u));
  let z = key_scale(first + min(key + 2u, count - 1u));
  let w = key_scale(first + min(key + 3u, count - 1u));
  return FourScales(vec4f(x.x, y.x, z.x, w.x), vec4f(x.y, y.y, z.y, w.y));
}

fn four_value_scales(first: u32, count: u32, key: u32) -> FourScales {
  let x = value_scale(first + min(key, count - 1u));
  let y = value_scale(first + min(key + 1u, count - 1u));
  let z = value_scale(first + min(key + 2u, count - 1u));
  let w = value_scale(first + min(key + 3u, count - 1u));
  return FourScales(vec4f(x.x, y.x, z.x, w.x), vec4f(x.y, y.y, z.y, w.y));
}

fn scaled_scores(scores: vec4f, keys: FourScales, query_sum: f32) -> vec4f {
  return fma(keys.steps, rounded_four(scores), rounded_four(keys.minima * query_sum));
}

fn joined_four(o: vec4f, z: f32, l: f32) -> vec4f {
  return vec4f(joined(o.x, z, l), joined(o.y, z, l), joined(o.z, z, l), joined(o.w, z, l));
}

fn masked(scores: vec4f, key: u32, visible: u32) -> vec4f {
  return select(vec4f(lowest), scores, vec4u(key, key + 1u, key + 2u, key + 3u) < vec4u(visible));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = id.x;
  let first_token = id.y * queries;
  if (first_token >= step.num_tokens) {
    return;
  }
  // A subgroup of 32 owns 4 values of a and 8 of b.
  let a = lane / 128u * 4u + lane % 32u / 8u;
  let b = lane / 32u % 4u * 8u + lane % 8u;
  let rows = h / (params.H / params.Hkv) * params.context;
  let last_token = min(first_token + queries, step.num_tokens) - 1u;
  let end = step.position + last_token + 1u;
  let own_keys = step.position + first_token + 4u * a + 1u; // that this lane's first query sees

  if (scaled) {
    sum_queries(first_token, h, lane);
  }
  var m = vec4f(lowest); // of 4 queries
  var l = vec4f();
  var z = vec4f();
  var o0 = vec4f(); // query 0, elements 4b ..
  var o1 = vec4f();
  var o2 = vec4f();
  var o3 = vec4f();
  for (var start = 0u; start < end; start += piece_keys) {
    let first = rows + start;
    let count = min(piece_keys, end - start);

    // Scores of 4 queries x (4 + 4) keys, walked part by part.
    var s0a = vec4f();
    var s1a = vec4f();
    var s2a = vec4f();
    var s3a = vec4f();
    var s0b = vec4f();
    var s1b = vec4f();
    var s2b = vec4f();
    var s3b = vec4f();
    var next_key = load_key(first, count, 0u, lane);
    var next_query = load_query(first_token, h, 0u, lane);
    for (var part = 0u; part < 4u; part++) {
      var p0a = vec4f();
      var p1a = vec4f();
      var p2a = vec4f();
      var p3a = vec4f();
      var p0b = vec4f();
      var p1b = vec4f();
      var p2b = vec4f();
      var p3b = vec4f();
      for (var i = 0u; i < chunks / 4u; i++) {
        workgroupBarrier();
        stage_scores(next_key, next_query, lane);
        workgroupBarrier();
        let is_last = i + 1u == chunks / 4u;
        let next = walked(select(part, (part + 1u) % 4u, is_last), select(i + 1u, 0u, is_last)); // loaded ahead
        next_key = load_key(first, count, next, lane);
        next_query = load_query(first_token, h, next, lane);
        for (var e = 0u; e < 8u; e++) {
          let ka = tile[e * 64u + b];
          let kb = tile[e * 64u + 32u + b];
          let query = tile[queries_at + e * 8u + a];
          p0a = fma(ka, vec4f(query.x), p0a);
          p1a = fma(ka, vec4f(query.y), p1a);
          p2a = fma(ka, vec4f(query.z), p2a);
          p3a = fma(ka, vec4f(query.w), p3a);
          p0b = fma(kb, vec4f(query.x), p0b);
          p1b = fma(kb, vec4f(query.y), p1b);
          p2b = fma(kb, vec4f(query.z), p2b);
          p3b = fma(kb, vec4f(query.w), p3b);
        }
      }
      s0a += p0a;
      s1a += p1a;
      s2a += p2a;
      s3a += p3a;
      s0b += p0b;
      s1b += p1b;
      s2b += p2b;
      s3b += p3b;
    }

    if (scaled) {
      let ka = four_key_scales(first, count, 4u * b);
      let kb = four_key_scales(first, count, 128u + 4u * b);
      let sums = query_sums[a];
      s0a = scaled_scores(s0a, ka, sums.x);
      s1a = scaled_scores(s1a, ka, sums.y);
      s2a = scaled_scores(s2a, ka, sums.z);
      s3a = scaled_scores(s3a, ka, sums.w);
      s0b = scaled_scores(s0b, kb, sums.x);
      s1b = scaled_scores(s1b, kb, sums.y);
      s2b = scaled_scores(s2b, kb, sums.z);
      s3b = scaled_scores(s3b, kb, sums.w);
    }

    // Keys behind a query's own position, and the maximum of each query over the piece.
    let seen = max(vec4u(own_keys) + vec4u(0, 1, 2, 3), vec4u(start)) - vec4u(start); // of the piece
    s0a = masked(s0a, 4u * b, seen.x);
    s1a = masked(s1a, 4u * b, seen.y);
    s2a = masked(s2a, 4u * b, seen.z);
    s3a = masked(s3a, 4u * b, seen.w);
    s0b = masked(s0b, 128u + 4u * b, seen.x);
    s1b = masked(s1b, 128u + 4u * b, seen.y);
    s2b = masked(s2b, 128u + 4u * b, seen.z);
    s3b = masked(s3b, 128u + 4u * b, seen.w);
    let t0 = max(s0a, s0b);
    let t1 = max(s1a, s1b);
    let t2 = max(s2a, s2b);
    let t3 = max(s3a, s3b);
    workgroupBarrier();
    tile[a * 32u + b] = vec4f(max(max(t0.x, t0.y), max(t0.z, t0.w)), max(max(t1.x, t1.y), max(t1.z, t1.w)),
                              max(max(t2.x, t2.y), max(t2.z, t2.w)), max(max(t3.x, t3.y), max(t3.z, t3.w)));
    workgroupBarrier();
    var piece_m = vec4f(lowest);
    for (var i = 0u; i < 32u; i++) {
      piece_m = max(piece_m, tile[a * 32u + i]);
    }
    s0a = exp(s0a - piece_m.x);
    s1a = exp(s1a - piece_m.y);
    s2a = exp(s2a - piece_m.z);
    s3a = exp(s3a - piece_m.w);
    s0b = exp(s0b - piece_m.x);
    s1b = exp(s1b - piece_m.y);
    s2b = exp(s2b - piece_m.z);
    s3b = exp(s3b - piece_m.w);
    // A piece that a query does not see at all has lowest as its maximum, and would get weights of 1.
    if (any(seen == vec4u())) {
      s0a = select(s0a, vec4f(), seen.x == 0u);
      s1a = select(s1a, vec4f(), seen.y == 0u);
      s2a = select(s2a, vec4f(), seen.z == 0u);
      s3a = select(s3a, vec4f(), seen.w == 0u);
      s0b = select(s0b, vec4f(), seen.x == 0u);
      s1b = select(s1b, vec4f(), seen.y == 0u);
      s2b = select(s2b, vec4f(), seen.z == 0u);
      s3b = select(s3b, vec4f(), seen.w == 0u);
    }

    // Values, one group of keys after the other.
    var piece_l = vec4f();
    var piece_minima = vec4f();
    let va = four_value_scales(first, count, 4u * b);
    let vb = four_value_scales(first, count, 128u + 4u * b);
    var v0 = vec4f();
    var v1 = vec4f();
    var v2 = vec4f();
    var v3 = vec4f();
    var next_value = load_value(first, count, 0u, lane);
    for (var g = 0u; g < groups; g++) {
      workgroupBarrier();
      tile[2u * lane] = low_half(next_value); // value lane / 16, chunk lane % 16
      tile[2u * lane + 1u] = high_half(next_value);
      // Keys 4b + j and 128 + 4b + j belong to group (4b + j) % 16, as its members b / 4 and 8 + b / 4.
      if (b % 4u == g / 4u) {
        let j = g % 4u;
        let i = b / 4u * 8u + a;
        let wa = vec4f(s0a[j], s1a[j], s2a[j], s3a[j]);
        let wb = vec4f(s0b[j], s1b[j], s2b[j], s3b[j]);
        tile[weights_at + i] = wa;
        tile[weights_at + i + 64u] = wb;
        if (scaled) {
          tile[factors_at + i] = wa * va.steps[j];
          tile[factors_at + i + 64u] = wb * vb.steps[j];
          tile[minima_at + i] = wa * va.minima[j];
          tile[minima_at + i + 64u] = wb * vb.minima[j];
        }
      }
      workgroupBarrier();
      next_value = load_value(first, count, (g + 1u) % groups, lane); // ahead
      if (lane < select(8u, 16u, scaled)) {
        var sum = vec4f();
        for (var i = 0u; i < 16u; i++) {
          sum += tile[select(weights_at, minima_at, lane >= 8u) + i * 8u + lane % 8u];
        }
        group_sums[lane] = sum;
      }
      var g0 = vec4f();
      var g1 = vec4f();
      var g2 = vec4f();
      var g3 = vec4f();
      for (var i = 0u; i < 16u; i++) {
        let value = tile[i * fours + b];
        let weight = tile[factors_at + i * 8u + a];
        g0 = fma(vec4f(weight.x), value, g0);
        g1 = fma(vec4f(weight.y), value, g1);
        g2 = fma(vec4f(weight.z), value, g2);
        g3 = fma(vec4f(weight.w), value, g3);
      }
      v0 += g0;
      v1 += g1;
      v2 += g2;
      v3 += g3;
      workgroupBarrier();
      piece_l += group_sums[a];
      if (scaled) {
        piece_minima += group_sums[8u + a];
      }
    }

    let f0 = join_factors(m.x, piece_m.x);
    let f1 = join_factors(m.y, piece_m.y);
    let f2 = join_factors(m.z, piece_m.z);
    let f3 = join_factors(m.w, piece_m.w);
    let so_far = vec4f(f0.so_far, f1.so_far, f2.so_far, f3.so_far);
    let of_piece = vec4f(f0.piece, f1.piece, f2.piece, f3.piece);
    l = fma(l, so_far, piece_l * of_piece);
    z = fma(z, so_far, piece_minima * of_piece);
    o0 = fma(o0, vec4f(so_far.x), v0 * f0.piece);
    o1 = fma(o1, vec4f(so_far.y), v1 * f1.piece);
    o2 = fma(o2, vec4f(so_far.z), v2 * f2.piece);
    o3 = fma(o3, vec4f(so_far.w), v3 * f3.piece);
    m = vec4f(f0.m, f1.m, f2.m, f3.m);
  }

  let t = first_token + 4u * a;
  let at = (t * params.H + h) * fours + b;
  let row = params.H * fours;
  if (t < step.num_tokens) {
    out[at] = joined_four(o0, z.x, l.x);
  }
  if (t + 1u < step.num_tokens) {
    out[at + row] = joined_four(o1, z.y, l.y);
  }
  if (t + 2u < step.num_tokens) {
    out[at + 2u * row] = joined_four(o2, z.z, l.z);
  }
  if (t + 3u < step.num_tokens) {
    out[at + 3u * row] = joined_four(o3, z.w, l.w);
  }
}
