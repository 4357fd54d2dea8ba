// Shared by the attention kernels (it is put in front of them, behind attention_join.wgsl and the cache's layout, kv_*.wgsl):
// one piece of at most LANES keys against one query, with LANES invocations. The kernel brings `params.Dh` and the cache as
// key_load(row, load), value_chunk(row, chunk), key_scale(row) and value_scale(row), and maximum(score, lane) by
// attention_maximum.wgsl or attention_maximum_sg.wgsl.
//
// A "chunk" is 8 elements of a cache row, a "load" 16 bytes: 1, 2 or 4 chunks. Scores: 4 lanes per key, each with every fourth
// load, so that a key is read in runs of 64 bytes. Values: C = ceil(Dh / 8) neighbouring lanes read a row, a chunk each;
// floor(LANES / C) such groups take the keys in turn and are added in order. Float32 throughout. `attention_tiled` walks its
// sums in the order that is laid down here.
// Rows with codes u, a step and a minimum (kv_scaled.wgsl): a score is step (q . u) + minimum (sum of q), and
// o + z with o = sum w step u and z = sum w minimum over the keys' weights w = exp(s - m), z one number for all elements.
// Preconditions: LANES a multiple of 32, Dh even and at most LANES.

override LANES: u32 = 256; // of a workgroup, and keys of a piece
override value_pitch = LANES + 4u;
// Loads in flight per lane; they change no bit. 1 each where loads are cheap (software adapters). Named variables and no arrays
// hold them: a compiler may put an array into memory, which costs more than the waiting.
override LOADS_AHEAD: u32 = 1; // loads of a key at once, 1, 2 or 4
override SCORE_KEYS: u32 = 1; // keys at once, 1, 2 or 4
override KEYS_AHEAD: u32 = 1; // rows of values at once, 1, 4 or 8

const scale_arrays = select(0u, 1u, scaled);
const sums_ahead = 16u; // groups of values whose sums are read together

var<workgroup> query: array<vec4f, LANES / 4u>; // [Dh] scaled, 0 beyond
// First score parts [P keys, 4 lanes], then value sums [8 elements of a chunk, lane]: one array, because software
// adapters take compile time for every word of workgroup memory. Pitch: a subgroup's reads then fall into distinct banks.
var<workgroup> scratch: array<f32, 8u * value_pitch>;
var<workgroup> scores: array<f32, LANES>; // scores, then weights w
var<workgroup> group_sums: array<f32, LANES>; // [groups] sums of w
// With codes alone:
var<workgroup> query_sum: f32;
var<workgroup> weighted_steps: array<f32, 1u + scale_arrays * LANES>; // w step
var<workgroup> weighted_minima: array<f32, 1u + scale_arrays * LANES>; // w minimum
var<workgroup> group_minima: array<f32, 1u + scale_arrays * LANES>; // [groups] sums of w minimum

// acc + a . b as one chain.
fn fma_dot(a: vec4f, b: vec4f, acc: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}

fn sum_of_four(v: vec4f) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

// Sum of the query, by the first lane. Kept in workgroup memory, so that no compiler can draw its additions into a product.
fn sum_query(lane: u32) {
  if (scaled && lane == 0u) {
    const together = 8u; // beyond Dh the query is 0, which changes no sum
    var sum = vec4f();
    for (var first = 0u; first < (params.Dh + 3u) / 4u; first += together) {
      var words: array<vec4f, together>;
      for (var i = 0u; i < together; i++) {
        words[i] = query[first + i];
      }
      for (var i = 0u; i < together; i++) {
        sum += words[i];
      }
    }
    query_sum = sum_of_four(sum);
  }
}

struct Loads {
  a: vec4u,
  b: vec4u,
  c: vec4u,
  d: vec4u,
}

// Every fourth load of a key from `start`; beyond the row's `loads` the last one again.
fn load_key(row: u32, start: u32, loads: u32) -> Loads {
  var key: Loads;
  key.a = key_load(row, start);
  if (LOADS_AHEAD > 1u) {
    key.b = key_load(row, min(start + 4u, loads - 1u));
  }
  if (LOADS_AHEAD > 2u) {
    key.c = key_load(row, min(start + 8u, loads - 1u));
    key.d = key_load(row, min(start + 12u, loads - 1u));
  }
  return key;
}

fn dot_chunk(chunk: Chunk, c: u32, sum: f32) -> f32 {
  return fma_dot(high_half(chunk), query[2u * c + 1u], fma_dot(low_half(chunk), query[2u * c], sum));
}

fn dot_load(load: vec4u, at: u32, sum: f32) -> f32 {
  let c = at * chunks_per_load;
  var total = dot_chunk(chunk_of(load, 0u), c, sum);
  if (chunks_per_load > 1u) {
    total = dot_chunk(chunk_of(load, 1u), c + 1u, total);
  }
  if (chunks_per_load > 2u) {
    total = dot_chunk(chunk_of(load, 2u), c + 2u, total);
    total = dot_chunk(chunk_of(load, 3u), c + 3u, total);
  }
  return total;
}

fn dot_key(key: Loads, start: u32, loads: u32, sum: f32) -> f32 {
  var total = dot_load(key.a, start, sum);
  if (LOADS_AHEAD > 1u && start + 4u < loads) {
    total = dot_load(key.b, start + 4u, total);
  }
  if (LOADS_AHEAD > 2u && start + 8u < loads) {
    total = dot_load(key.c, start + 8u, total);
  }
  if (LOADS_AHEAD > 2u && start + 12u < loads) {
    total = dot_load(key.d, start + 12u, total);
  }
  return total;
}

fn keep_score_part(key: u32, count: u32, lane: u32, sum: f32) {
  if (key < count) {
    scratch[4u * key + lane % 4u] = sum;
  }
}

// Score parts of all keys of the piece whose first cache row is `first`, into `scratch`.
fn score_parts(first: u32, count: u32, lane: u32) {
  const key_lanes = 4u;
  let stride = LANES / key_lanes;
  let loads = (params.Dh + 8u * chunks_per_load - 1u) / (8u * chunks_per_load);
  for (var key = lane / key_lanes; key < count; key += SCORE_KEYS * stride) {
    var sums = vec4f();
    for (var start = lane % key_lanes; start < loads; start += key_lanes * LOADS_AHEAD) {
      let x = load_key(first + key, start, loads);
      var y = x;
      var z = x;
      var w = x;
      if (SCORE_KEYS > 1u) {
        y = load_key(first + min(key + stride, count - 1u), start, loads);
      }
      if (SCORE_KEYS > 2u) {
        z = load_key(first + min(key + 2u * stride, count - 1u), start, loads);
        w = load_key(first + min(key + 3u * stride, count - 1u), start, loads);
      }
      sums.x = dot_key(x, start, loads, sums.x);
      if (SCORE_KEYS > 1u) {
        sums.y = dot_key(y, start, loads, sums.y);
      }
      if (SCORE_KEYS > 2u) {
        sums.z = dot_key(z, start, loads, sums.z);
        sums.w = dot_key(w, start, loads, sums.w);
      }
    }
    keep_score_part(key, count, lane, sums.x);
    if (SCORE_KEYS > 1u) {
      keep_score_part(key + stride, count, lane, sums.y);
    }
    if (SCORE_KEYS > 2u) {
      keep_score_part(key + 2u * stride, count, lane, sums.z);
      keep_score_part(key + 3u * stride, count, lane, sums.w);
    }
  }
}

// Score of key `lane`; unused lanes get `lowest`.
fn piece_score(count: u32, lane: u32, scale: vec2f) -> f32 {
  if (lane >= count) {
    return lowest;
  }
  let first_part = 4u * lane;
  let score = scratch[first_part] + scratch[first_part + 1u] + scratch[first_part + 2u] + scratch[first_part + 3u];
  if (scaled) {
    return fma(scale.x, rounded(score), rounded(scale.y * query_sum));
  }
  return score;
}

// Keeps the weight of key `lane`.
fn put_weight(weight: f32, scale: vec2f, lane: u32) {
  scores[lane] = weight;
  if (scaled) {
    weighted_steps[lane] = weight * scale.x;
    weighted_minima[lane] = weight * scale.y;
  }
}

// What the stored elements of a key's values are multiplied by.
fn value_weight(key: u32) -> f32 {
  if (scaled) {
    return weighted_steps[key];
  }
  return scores[key];
}

struct Values {
  a: Chunk,
  b: Chunk,
  c: Chunk,
  d: Chunk,
}

// This lane's chunk of up to four rows from row `start` of the piece, as many groups apart as there are.
fn load_values(first: u32, count: u32, groups: u32, start: u32, chunk: u32) -> Values {
  var values: Values;
  values.a = value_chunk(first + min(start, count - 1u), chunk);
  if (KEYS_AHEAD > 1u) {
    values.b = value_chunk(first + min(start + groups, count - 1u), chunk);
    values.c = value_chunk(first + min(start + 2u * groups, count - 1u), chunk);
    values.d = value_chunk(first + min(start + 3u * groups, count - 1u), chunk);
  }
  return values;
}

// Up to eight rows: those that are loaded ahead.
struct Rows {
  near: Values,
  far: Values,
}

fn load_rows(first: u32, count: u32, groups: u32, start: u32, chunk: u32) -> Rows {
  var rows: Rows;
  rows.near = load_values(first, count, groups, start, chunk);
  if (KEYS_AHEAD > 4u) {
    rows.far = load_values(first, count, groups, start + 4u * groups, chunk);
  }
  return rows;
}

struct ValueSums {
  low: vec4f,
  high: vec4f,
  weights: f32,
  minima: f32,
}

fn add_value(sums: ValueSums, chunk: Chunk, key: u32, count: u32) -> ValueSums {
  if (key >= count) {
    return sums;
  }
  let weight = vec4f(value_weight(key));
  var added = ValueSums(fma(weight, low_half(chunk), sums.low), fma(weight, high_half(chunk), sums.high),
                        sums.weights + scores[key], sums.minima);
  if (scaled) {
    added.minima += weighted_minima[key];
  }
  return added;
}

fn add_values(sums: ValueSums, values: Values, key: u32, groups: u32, count: u32) -> ValueSums {
  var added = add_value(sums, values.a, key, count);
  if (KEYS_AHEAD > 1u) {
    added = add_value(added, values.b, key + groups, count);
    added = add_value(added, values.c, key + 2u * groups, count);
    added = add_value(added, values.d, key + 3u * groups, count);
  }
  return added;
}

// Value sums of this lane's chunk over its group's keys, into `scratch`, and the group's other sums. `first_rows` are the
// first ones, which were loaded before the weights were there; later ones are loaded before the ones ahead of them are used.
fn value_sums(first: u32, count: u32, groups: u32, lane: u32, first_rows: Rows) {
  let chunks = (params.Dh + 7u) / 8u;
  let group = lane / chunks;
  if (group >= groups) {
    return;
  }
  var sums: ValueSums;
  var ahead = first_rows;
  for (var key = group; key < count; key += KEYS_AHEAD * groups) {
    let current = ahead;
    let next = key + KEYS_AHEAD * groups;
    if (next < count) {
      ahead = load_rows(first, count, groups, next, lane % chunks);
    }
    sums = add_values(sums, current.near, key, groups, count);
    if (KEYS_AHEAD > 4u) {
      sums = add_values(sums, current.far, key + 4u * groups, groups, count);
    }
  }
  for (var e = 0u; e < 4u; e++) {
    scratch[e * value_pitch + lane] = sums.low[e];
    scratch[(e + 4u) * value_pitch + lane] = sums.high[e];
  }
  if (lane % chunks == 0u) {
    group_sums[group] = sums.weights;
    if (scaled) {
      group_minima[group] = sums.minima;
    }
  }
}

struct Piece {
  m: f32, // maximal score
  l: f32, // sum of w
  z: f32, // sum of w minimum; 0 without codes
  o: f32, // sum of w v[d], or of w step u[d], d = lane
}

// The piece of `count` keys whose first row is `first` in both caches. All but o are the same in every lane.
fn attend(first: u32, count: u32, lane: u32) -> Piece {
  workgroupBarrier(); // the query is loaded, the piece before is read
  let own_key_row = first + min(lane, count - 1u);
  let key = key_scale(own_key_row);
  let value = value_scale(own_key_row);
  score_parts(first, count, lane);
  let chunks = (params.Dh + 7u) / 8u;
  let groups = min(LANES / chunks, count);
  let first_rows = load_rows(first, count, groups, lane / chunks, lane % chunks);
  sum_query(lane);
  workgroupBarrier();
  let score = piece_score(count, lane, key);
  let m = maximum(score, lane);
  put_weight(exp(score - m), value, lane);
  workgroupBarrier();
  value_sums(first, count, groups, lane, first_rows);
  workgroupBarrier();
  let own = lane % 8u * value_pitch + lane / 8u % chunks;
  var piece = Piece(m, 0.0, 0.0, 0.0);
  for (var start = 0u; start < groups; start += sums_ahead) {
    var sums: array<f32, sums_ahead>;
    var parts: array<f32, sums_ahead>;
    for (var i = 0u; i < sums_ahead; i++) {
      let g = min(start + i, groups - 1u);
      sums[i] = group_sums[g];
      parts[i] = scratch[own + g * chunks];
    }
    for (var i = 0u; i < sums_ahead; i++) {
      if (start + i < groups) {
        piece.l += sums[i];
        piece.o += parts[i];
        if (scaled) {
          piece.z += group_minima[start + i];
        }
      }
    }
  }
  return piece;
}
