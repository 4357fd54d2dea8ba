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
// Preceded by quantize.wgsl. Precondition: WORKGROUP is a power of two.

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

fn squares_and_maximum(base: u32, lane: u32) -> vec2f {
  var squares = 0.0;
  var maximum = 0.0;
  for (var k = lane; k < params.D; k += WORKGROUP) {
    let value = x[base + k];
    squares = add_square(squares, value);
    maximum = max(maximum, abs(value * weight[k]));
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

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = group.x;
  if (t >= step.num_tokens) {
    return;
  }
  let base = t * params.D;
  let found = squares_and_maximum(base, lane);
  let r = inverse_rms(found.x, params.D, params.eps);
  let token = dynamic_scale(found.y * r, params.scale_factor);

  var sum = 0;
  for (var word = lane; word < params.K_words; word += WORKGROUP) {
    var value = vec4f();
    for (var j = 0u; j < 4u; j++) {
      let k = 4u * word + j;
      if (k < params.D) {
        value[j] = x[base + k] * weight[k];
      }
    }
    let integers = quantize4(value * r * token.inverse, vec4f(), params.q_max);
    sum += integers.x + integers.y + integers.z + integers.w;
    q[t * params.K_words + word] = pack_bytes(integers);
  }
  let total = sum_of_integers(sum, lane);
  if (lane == 0u) {
    qmeta[t] = vec2u(bitcast<u32>(token.scale), bitcast<u32>(total));
  }
}
