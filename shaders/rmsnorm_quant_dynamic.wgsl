// RMSNorm followed by per-token dynamic quantization:
//   y[t,k] = x[t,k] * weight_k * r,   r = 1 / sqrt(mean_k x[t,k]^2 + eps)
//   s_t    = scale_factor * max_k |y[t,k]|,   scale_factor = ratio / q_max
//   q[t,k] = clamp(round(y[t,k] / s_t), -q_max - 1, q_max),  round half to even
//   qmeta[t] = (s_t, sum_k q[t,k]);  q = 0 and s_t = 0 when s_t is not a normal number (an all-zero token)
//
//   x [T, D] f32, weight [D] f32  ->  q [T, K'] i8 packed by 4 (zero behind D), qmeta [T] (f32 bits, i32 bits)
//
// One workgroup per token. Rounding is monotonic, so max |x * weight * r| = max |x * weight| * r bit for bit: squares and
// maximum come from one pass over x. Invocation l reads elements l, l + WORKGROUP, ..., binary trees in workgroup memory
// combine (an order that depends on nothing but D), then invocation l owns the words l, l + WORKGROUP, ... of q.
// With few tokens all time is latency: loads go in batches without branches (clamped indices; a 0 changes neither sum nor
// maximum), so that they are in flight together. Preceded by quantize.wgsl. Precondition: WORKGROUP is a power of two.

struct Params {
  D: u32,
  K_words: u32, // K' / 4
  eps: f32,
  q_max: f32, // 7 or 127
  scale_factor: f32,
}

struct Step {
  num_tokens: u32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>; // [T, D]
@group(0) @binding(3) var<storage, read> weight: array<f32>; // [D]
@group(0) @binding(4) var<storage, read_write> q: array<u32>; // [T, K'/4]
@group(0) @binding(5) var<storage, read_write> qmeta: array<vec2u>; // [T]

var<workgroup> partial: array<vec2f, WORKGROUP>; // (sum of squares, maximum)
var<workgroup> partial_sums: array<i32, WORKGROUP>;

const value_batch = 16u; // elements of an invocation
const word_batch = 5u;

fn squares_and_maximum(base: u32, lane: u32) -> vec2f {
  var squares = 0.0;
  var maximum = 0.0;
  for (var first = lane; first < params.D; first += value_batch * WORKGROUP) {
    var values: array<f32, value_batch>;
    var weights: array<f32, value_batch>;
    for (var i = 0u; i < value_batch; i++) {
      let k = min(first + i * WORKGROUP, params.D - 1u);
      values[i] = x[base + k];
      weights[i] = weight[k];
    }
    for (var i = 0u; i < value_batch; i++) {
      let value = select(0.0, values[i], first + i * WORKGROUP < params.D);
      squares = add_square(squares, value);
      maximum = max(maximum, abs(value * weights[i]));
    }
  }
  partial[lane] = vec2f(squares, maximum);
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      let other = partial[lane + width];
      partial[lane] = vec2f(partial[lane].x + other.x, max(partial[lane].y, other.y));
    }
  }
  workgroupBarrier();
  return partial[0];
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

/// x * weight of four elements of token t; any value behind D.
fn weighted_word(t: u32, word: u32) -> vec4f {
  let k = min(vec4u(4u * word) + vec4u(0u, 1u, 2u, 3u), vec4u(params.D - 1u));
  let at = vec4u(t * params.D) + k;
  return vec4f(x[at.x], x[at.y], x[at.z], x[at.w]) * vec4f(weight[k.x], weight[k.y], weight[k.z], weight[k.w]);
}

/// Stores the words first, first + WORKGROUP, ... of token t that exist and returns the sum of their integers.
fn quantize_words(t: u32, first: u32, r: f32, inverse: f32) -> i32 {
  var values: array<vec4f, word_batch>;
  for (var i = 0u; i < word_batch; i++) {
    values[i] = weighted_word(t, first + i * WORKGROUP);
  }
  var sum = 0;
  for (var i = 0u; i < word_batch; i++) {
    let word = first + i * WORKGROUP;
    if (word < params.K_words) {
      let is_there = vec4u(4u * word) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.D);
      let value = select(vec4f(), values[i], is_there);
      let integers = quantize4(value * r * inverse, vec4f(), params.q_max);
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
  let found = squares_and_maximum(t * params.D, lane);
  let r = inverse_rms(found.x, params.D, params.eps);
  let token = dynamic_scale(found.y * r, params.scale_factor);
  var sum = 0;
  for (var first = lane; first < params.K_words; first += word_batch * WORKGROUP) {
    sum += quantize_words(t, first, r, token.inverse);
  }
  let total = sum_of_integers(sum, lane);
  if (lane == 0u) {
    qmeta[t] = vec2u(bitcast<u32>(token.scale), bitcast<u32>(total));
  }
}
