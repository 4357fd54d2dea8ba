// Shared by the attention kernels (it is put in front of them, behind attention_join.wgsl and the cache's layout, kv_*.wgsl):
// one piece of at most LANES keys against one query, with LANES invocations. The kernel brings `params.Dh` and the cache as
// key_load(row, load), value_chunk(row, chunk), key_scale(row) and value_scale(row).
//
// A "chunk" is 8 elements of a cache row, a "load" 16 bytes: 1, 2 or 4 chunks. Scores: 4 lanes per key, each with every fourth
// load, so that a key is read in runs of 64 bytes. Values: C = ceil(Dh / 8) neighbouring lanes read a row, a chunk each;
// floor(LANES / C) such groups take the keys in turn and are added in order. Float32 throughout. `attention_tiled` walks its
// sums in the order that is laid down here.
// Rows with codes u, a step and a minimum (kv_scaled.wgsl): a score is step (q . u) + minimum (sum of q), and
// o = sum w step u + sum w minimum over the keys' weights w = exp(s - m), the second sum being one number for all elements.
// Preconditions: LANES a multiple of 32, Dh even and at most LANES.

override LANES: u32 = 256; // of a workgroup, and keys of a piece
override value_pitch = LANES + 4u;
// Loads in flight per lane; they change no bit. 1 each where loads are cheap (software adapters).
override LOADS_AHEAD: u32 = 1; // loads of a key at once, at most 4
override SCORE_KEYS: u32 = 1; // keys at once; SCORE_KEYS * LOADS_AHEAD at most 8
override KEYS_AHEAD: u32 = 1; // rows of values at once, at most 8

const most_ahead = 8u;
const scale_arrays = select(0u, 1u, scaled);

var<workgroup> query: array<vec4f, LANES / 4u>; // [Dh] scaled, 0 beyond
// First score parts [P keys, 4 lanes], then value sums [8 elements of a chunk, lane]: one array, because software
// adapters take compile time for every word of workgroup memory. Pitch: a subgroup's reads then fall into distinct banks.
var<workgroup> scratch: array<f32, 8u * value_pitch>;
var<workgroup> maxima: array<f32, 16>;
var<workgroup> scores: array<f32, LANES>; // scores, then weights w
var<workgroup> group_sums: array<f32, LANES>; // [groups] sums of w
// With codes alone:
var<workgroup> query_sums: array<f32, 4>; // sum of the query in four parts
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

// Part `lane` of the sum of the query, for the first four lanes: every fourth word.
fn sum_query(lane: u32) {
  if (scaled && lane < 4u) {
    var sum = vec4f();
    for (var word = lane; word < LANES / 4u; word += 4u) {
      sum += query[word];
    }
    query_sums[lane] = sum_of_four(sum);
  }
}

// Score parts of all keys of the piece whose first cache row is `first`, into `scratch`.
fn score_parts(first: u32, count: u32, lane: u32) {
  let loads = (params.Dh + 8u * chunks_per_load - 1u) / (8u * chunks_per_load);
  for (var start_key = lane / 4u; start_key < count; start_key += SCORE_KEYS * LANES / 4u) {
    var sums = array<f32, most_ahead>(); // written out: without it SwiftShader keeps the sums of the turn before
    for (var start = lane % 4u; start < loads; start += 4u * LOADS_AHEAD) {
      var ahead: array<vec4u, most_ahead>;
      for (var k = 0u; k < SCORE_KEYS; k++) {
        let key = min(start_key + k * (LANES / 4u), count - 1u);
        for (var i = 0u; i < LOADS_AHEAD; i++) {
          ahead[k * LOADS_AHEAD + i] = key_load(first + key, min(start + 4u * i, loads - 1u));
        }
      }
      for (var i = 0u; i < LOADS_AHEAD; i++) {
        let load = start + 4u * i;
        if (load < loads) {
          for (var j = 0u; j < chunks_per_load; j++) {
            let low = query[2u * (chunks_per_load * load + j)];
            let high = query[2u * (chunks_per_load * load + j) + 1u];
            for (var k = 0u; k < SCORE_KEYS; k++) {
              let chunk = chunk_of(ahead[k * LOADS_AHEAD + i], j);
              sums[k] = fma_dot(high_half(chunk), high, fma_dot(low_half(chunk), low, sums[k]));
            }
          }
        }
      }
    }
    for (var k = 0u; k < SCORE_KEYS; k++) {
      let key = start_key + k * (LANES / 4u);
      if (key < count) {
        scratch[4u * key + lane % 4u] = sums[k];
      }
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
    let query_sum = query_sums[0] + query_sums[1] + query_sums[2] + query_sums[3];
    return fma(scale.x, score, scale.y * query_sum);
  }
  return score;
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

// Value sums of this lane's chunk over its group's keys, into `scratch`, and the group's other sums.
fn value_sums(first: u32, count: u32, groups: u32, lane: u32) {
  let chunks = (params.Dh + 7u) / 8u;
  let group = lane / chunks;
  if (group >= groups) {
    return;
  }
  var low = vec4f();
  var high = vec4f();
  var sum = 0.0;
  var minima = 0.0;
  for (var start = group; start < count; start += KEYS_AHEAD * groups) {
    var ahead: array<Chunk, most_ahead>;
    for (var i = 0u; i < KEYS_AHEAD; i++) {
      ahead[i] = value_chunk(first + min(start + i * groups, count - 1u), lane % chunks);
    }
    for (var i = 0u; i < KEYS_AHEAD; i++) {
      let key = start + i * groups;
      if (key < count) {
        let weight = value_weight(key);
        low = fma(vec4f(weight), low_half(ahead[i]), low);
        high = fma(vec4f(weight), high_half(ahead[i]), high);
        sum += scores[key];
        if (scaled) {
          minima += weighted_minima[key];
        }
      }
    }
  }
  for (var e = 0u; e < 4u; e++) {
    scratch[e * value_pitch + lane] = low[e];
    scratch[(e + 4u) * value_pitch + lane] = high[e];
  }
  if (lane % chunks == 0u) {
    group_sums[group] = sum;
    if (scaled) {
      group_minima[group] = minima;
    }
  }
}

struct Piece {
  m: f32, // maximal score
  l: f32, // sum of w
  o: f32, // sum of w v[d], d = lane
}

// The piece of `count` keys whose first row is `first` in both caches. m and l are the same in every lane.
fn attend(first: u32, count: u32, lane: u32) -> Piece {
  workgroupBarrier(); // the query is loaded, the piece before is read
  let own_key_row = first + min(lane, count - 1u);
  let key = key_scale(own_key_row);
  let value = value_scale(own_key_row);
  sum_query(lane);
  score_parts(first, count, lane);
  workgroupBarrier();
  let score = piece_score(count, lane, key);
  let m = maximum(score, lane);
  put_weight(exp(score - m), value, lane);
  workgroupBarrier();
  let chunks = (params.Dh + 7u) / 8u;
  let groups = min(LANES / chunks, count);
  value_sums(first, count, groups, lane);
  workgroupBarrier();
  let own = lane % 8u * value_pitch + lane / 8u % chunks;
  var piece = Piece(m, 0.0, 0.0);
  var minima = 0.0;
  for (var start = 0u; start < groups; start += 4u) {
    var sums: array<f32, 4>;
    var parts: array<f32, 4>;
    for (var i = 0u; i < 4u; i++) {
      let g = min(start + i, groups - 1u);
      sums[i] = group_sums[g];
      parts[i] = scratch[own + g * chunks];
    }
    for (var i = 0u; i < 4u; i++) {
      if (start + i < groups) {
        piece.l += sums[i];
        piece.o += parts[i];
        if (scaled) {
          minima += group_minima[start + i];
        }
      }
    }
  }
  if (scaled) {
    piece.o += minima;
  }
  return piece;
}
