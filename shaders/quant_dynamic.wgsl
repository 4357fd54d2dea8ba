// Per-token dynamic quantization of a linear's input (o and down projections):
//   s_t    = scale_factor * max_k |x[t,k]|,   scale_factor = ratio / q_max
//   q[t,k] = clamp(round(x[t,k] / s_t), -q_max - 1, q_max),  round half to even
//   qmeta[t] = (s_t, sum_k q[t,k]);  q = 0 and s_t = 0 when s_t is not a normal number (an all-zero token)
//
//   x [T, K] f32  ->  q [T, K'] i8 packed by 4 (zero behind K), qmeta [T] (f32 bits, i32 bits)
//
// One workgroup per token; invocation l reads elements l, l + WORKGROUP, ... for the maximum and owns the words
// l, l + WORKGROUP, ... of q. Maximum and integer sum are exact in any order.
// Preceded by quantize.wgsl. Precondition: WORKGROUP is a power of two.

struct Params {
  K: u32,
  K_words: u32, // K' / 4
  q_max: f32, // 7 or 127
  scale_factor: f32,
}

struct Step {
  num_tokens: u32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>; // [T, K]
@group(0) @binding(3) var<storage, read_write> q: array<u32>; // [T, K'/4]
@group(0) @binding(4) var<storage, read_write> qmeta: array<vec2u>; // [T]

var<workgroup> partial_maxima: array<f32, WORKGROUP>;
var<workgroup> partial_sums: array<i32, WORKGROUP>;

const value_batch = 16u; // elements of an invocation
const word_batch = 4u;

fn largest_magnitude(base: u32, lane: u32) -> f32 {
  var maximum = 0.0;
  for (var first = lane; first < params.K; first += value_batch * WORKGROUP) {
    var values: array<f32, value_batch>; // in flight together; behind the last one, that one again
    for (var i = 0u; i < value_batch; i++) {
      values[i] = x[base + min(first + i * WORKGROUP, params.K - 1u)];
    }
    for (var i = 0u; i < value_batch; i++) {
      maximum = max(maximum, abs(values[i]));
    }
  }
  partial_maxima[lane] = maximum;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      partial_maxima[lane] = max(partial_maxima[lane], partial_maxima[lane + width]);
    }
  }
  workgroupBarrier();
  return partial_maxima[0];
}

fn sum_of_integers(value: i32, lane: u32) -> i32 {
  partial_sums[lane] = value;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      partial_sums[lane] += partial_sums[lane + width];
    }
  }
  workgroupBarrier();
  return partial_sums[0];
}

/// Four elements of token t; any value behind K.
fn load_word(t: u32, word: u32) -> vec4f {
  let at = t * params.K + min(vec4u(4u * word) + vec4u(0u, 1u, 2u, 3u), vec4u(params.K - 1u));
  return vec4f(x[at.x], x[at.y], x[at.z], x[at.w]);
}

/// Stores the words first, first + WORKGROUP, ... of token t that exist and returns the sum of their integers.
fn quantize_words(t: u32, first: u32, inverse: f32) -> i32 {
  var values: array<vec4f, word_batch>;
  for (var i = 0u; i < word_batch; i++) {
    values[i] = load_word(t, first + i * WORKGROUP);
  }
  var sum = 0;
  for (var i = 0u; i < word_batch; i++) {
    let word = first + i * WORKGROUP;
    if (word < params.K_words) {
      let is_there = vec4u(4u * word) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.K);
      let value = select(vec4f(), values[i], is_there);
      let integers = quantize4(value * inverse, vec4f(), params.q_max);
      sum += integers.x + integers.y + integers.z + integers.w;
      q[t * params.K_words + word] = pack_bytes(integers);
    }
  }
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = group.x;
  if (t >= step.num_tokens) {
    return;
  }
  let token = dynamic_scale(largest_magnitude(t * params.K, lane), params.scale_factor);
  var sum = 0;
  for (var first = lane; first < params.K_words; first += word_batch * WORKGROUP) {
    sum += quantize_words(t, first, token.inverse);
  }
  let total = sum_of_integers(sum, lane);
  if (lane == 0u) {
    qmeta[t] = vec2u(bitcast<u32>(token.scale), bitcast<u32>(total));
  }
}
