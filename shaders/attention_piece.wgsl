// Shared by the attention kernels (it is put in front of them, behind attention_join.wgsl): one piece of at most LANES keys
// against one query, with LANES invocations. The kernel brings `params.Dh` and the cache as key_chunk and value_chunk.
//
// A "chunk" is 8 elements of a cache row, one 16-byte load. Scores: 4 lanes per key, each with every fourth chunk, so
// that a key is read in runs of 64 bytes. Values: C = ceil(Dh / 8) neighbouring lanes read a row; floor(LANES / C) such
// groups take the keys in turn and are added in order. Float32 throughout. `attention_tiled` walks its sums in the order
// that is laid down here.
// Preconditions: LANES a multiple of 16, Dh even and at most LANES.

override LANES: u32 = 256; // of a workgroup, and keys of a piece
override value_pitch = LANES + 4u;
// Loads in flight per lane; they change no bit. 1 each where loads are cheap (software adapters).
override CHUNKS_AHEAD: u32 = 1; // chunks of a key at once, at most 4; for one key, or with KEYS_AHEAD for two
override KEYS_AHEAD: u32 = 1; // rows of values at once, at most 8

var<workgroup> query: array<vec4f, LANES / 4u>; // [Dh] scaled, 0 beyond
// First score parts [P keys, 4 lanes], then value sums [8 elements of a chunk, lane]: one array, because software
// adapters take compile time for every word of workgroup memory. Pitch: a subgroup's reads then fall into distinct banks.
var<workgroup> scratch: array<f32, 8u * value_pitch>;
var<workgroup> maxima: array<f32, 16>;
var<workgroup> scores: array<f32, LANES>; // scores, then exp(s - m)
var<workgroup> group_sums: array<f32, LANES>; // [groups] sums of exp(s - m)

fn low_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.x), unpack2x16float(chunk.y));
}

fn high_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.z), unpack2x16float(chunk.w));
}

// acc + a . b as one chain.
fn fma_dot(a: vec4f, b: vec4f, acc: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}

// Score of key `lane` of the piece whose first cache row starts at word `first`; unused lanes get `lowest`.
fn piece_score(first: u32, count: u32, lane: u32) -> f32 {
  let chunks = (params.Dh + 7u) / 8u;
  let half = params.Dh / 2u;
  let keys_at_once = select(1u, 2u, KEYS_AHEAD > 1u);
  for (var key = lane / 4u; key < count; key += keys_at_once * LANES / 4u) {
    let far_key = min(key + LANES / 4u, count - 1u);
    var sum = 0.0;
    var far_sum = 0.0;
    for (var start = lane % 4u; start < chunks; start += 4u * CHUNKS_AHEAD) {
      var near: array<vec4u, 4>;
      var far: array<vec4u, 4>;
      for (var i = 0u; i < CHUNKS_AHEAD; i++) {
        let c = min(start + 4u * i, chunks - 1u);
        near[i] = key_chunk(first + key * half, c);
        if (keys_at_once == 2u) {
          far[i] = key_chunk(first + far_key * half, c);
        }
      }
      for (var i = 0u; i < CHUNKS_AHEAD; i++) {
        let c = start + 4u * i;
        if (c < chunks) {
          sum = fma_dot(high_half(near[i]), query[2u * c + 1u], fma_dot(low_half(near[i]), query[2u * c], sum));
          if (keys_at_once == 2u) {
            far_sum = fma_dot(high_half(far[i]), query[2u * c + 1u], fma_dot(low_half(far[i]), query[2u * c], far_sum));
          }
        }
      }
    }
    scratch[4u * key + lane % 4u] = sum;
    if (keys_at_once == 2u && key + LANES / 4u < count) {
      scratch[4u * far_key + lane % 4u] = far_sum;
    }
  }
  workgroupBarrier();
  if (lane >= count) {
    return lowest;
  }
  let first_part = 4u * lane;
  return scratch[first_part] + scratch[first_part + 1u] + scratch[first_part + 2u] + scratch[first_part + 3u];
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
    for (var start = group; start < count; start += KEYS_AHEAD * groups) {
      var loaded: array<vec4u, 8>;
      for (var i = 0u; i < KEYS_AHEAD; i++) {
        let key = min(start + i * groups, count - 1u);
        loaded[i] = value_chunk(first + key * (params.Dh / 2u), lane % chunks);
      }
      for (var i = 0u; i < KEYS_AHEAD; i++) {
        let key = start + i * groups;
        if (key < count) {
          let weight = scores[key];
          low = fma(vec4f(weight), low_half(loaded[i]), low);
          high = fma(vec4f(weight), high_half(loaded[i]), high);
          sum += weight;
        }
      }
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
      }
    }
  }
  return piece;
}
