// Per-token dynamic quantization of a linear's input (o and down projections):
//   s_t    = scale_factor * max_k |x[t,k]|,   scale_factor = ratio / q_max
//   q[t,k] = clamp(round(x[t,k] / s_t), -q_max - 1, q_max),  round half to even
//   qmeta[t] = (s_t, sum_k q[t,k]);  q = 0 and s_t = 0 when s_t is not a normal number (an all-zero token)
//
//   x [T, K] f32  ->  q [T, K'] i8 packed by 4 (zero behind K), qmeta [T] (f32 bits, i32 bits)
//
// One workgroup per token; invocation l owns the words l, l + WORKGROUP, ... of q and the elements that become them. The
// first KEPT of them stay in registers from the maximum to their integers, others are read twice. Maximum and integer sum
// are exact in any order.
// Preceded by quantize.wgsl. Preconditions: WORKGROUP is a power of two, KEPT at most most_kept; x is padded to 16 bytes.

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
override KEPT: u32 = 4; // words of q
override IN_FOURS: bool = false; // K is a multiple of 4

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4f>; // [T, K] floats, seen in fours
@group(0) @binding(3) var<storage, read_write> q: array<u32>; // [T, K'/4]
@group(0) @binding(4) var<storage, read_write> qmeta: array<vec2u>; // [T]

var<workgroup> partial_maxima: array<f32, WORKGROUP>;
var<workgroup> partial_sums: array<i32, WORKGROUP>;

const most_kept = 11u;
const batch = 4u; // words that are read together behind those

/// The largest of what all invocations found.
fn largest_of_all(maximum: f32, lane: u32) -> f32 {
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

fn element(at: u32) -> f32 {
  return x[at / 4u][at % 4u];
}

/// Four elements of token t; behind K, one of its others.
fn load_word(t: u32, word: u32) -> vec4f {
  if (IN_FOURS) {
    let words = params.K / 4u;
    return x[t * words + min(word, words - 1u)];
  }
  let at = t * params.K + min(vec4u(4u * word) + vec4u(0u, 1u, 2u, 3u), vec4u(params.K - 1u));
  return vec4f(element(at.x), element(at.y), element(at.z), element(at.w));
}

/// The words first, first + WORKGROUP, ... of token t.
fn load_batch(t: u32, first: u32) -> array<vec4f, batch> {
  var values: array<vec4f, batch>;
  for (var i = 0u; i < batch; i++) {
    values[i] = load_word(t, first + i * WORKGROUP);
  }
  return values;
}

fn largest_of(value: vec4f) -> f32 {
  let magnitude = abs(value);
  return max(max(magnitude.x, magnitude.y), max(magnitude.z, magnitude.w));
}

/// Stores a word of token t, where it exists, and returns the sum of its integers.
fn quantize_word(t: u32, word: u32, loaded: vec4f, inverse: f32) -> i32 {
  if (word >= params.K_words) {
    return 0;
  }
  let is_there = vec4u(4u * word) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.K);
  let value = select(vec4f(), loaded, is_there);
  let integers = quantize4(value * inverse, vec4f(), params.q_max);
  q[t * params.K_words + word] = pack_bytes(integers);
  return integers.x + integers.y + integers.z + integers.w;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = group.x;
  if (t >= step.num_tokens) {
    return;
  }
  var kept: array<vec4f, most_kept>;
  for (var i = 0u; i < KEPT; i++) {
    kept[i] = load_word(t, lane + i * WORKGROUP);
  }
  var maximum = 0.0;
  for (var i = 0u; i < KEPT; i++) {
    maximum = max(maximum, largest_of(kept[i]));
  }
  for (var first = lane + KEPT * WORKGROUP; first < params.K_words; first += batch * WORKGROUP) {
    let values = load_batch(t, first);
    for (var i = 0u; i < batch; i++) {
      maximum = max(maximum, largest_of(values[i]));
    }
  }
  let token = dynamic_scale(largest_of_all(maximum, lane), params.scale_factor);
  var sum = 0;
  for (var i = 0u; i < KEPT; i++) {
    sum += quantize_word(t, lane + i * WORKGROUP, kept[i], token.inverse);
  }
  for (var first = lane + KEPT * WORKGROUP; first < params.K_words; first += batch * WORKGROUP) {
    let values = load_batch(t, first);
    for (var i = 0u; i < batch; i++) {
      sum += quantize_word(t, first + i * WORKGROUP, values[i], token.inverse);
    }
  }
  let total = sum_of_integers(sum, lane);
  if (lane == 0u) {
    qmeta[t] = vec2u(bitcast<u32>(token.scale), bitcast<u32>(total));
  }
}
