// RMSNorm with the per-channel static activation scale merged into its multiplier, gather and rounding to integers
// (quantization step migration, Eq. 4 and 5; dimension reconstruction, Eq. 6):
//   r      = 1 / sqrt(mean_k x[t,k]^2 + eps)
//   q[t,k] = clamp(round(x[t, index_k] * mult_k * r) + offset_k, -q_max - 1, q_max),  round half to even
//   qmeta[t] = (1.0f, sum_k q[t,k])
//
//   x [T, D] f32, gather [K'] u32, mult [K'] f32  ->  q [T, K'] i8 packed by 4, qmeta [T] (f32 bits, i32 bits)
//
// One workgroup per token. Invocation l sums the squares of elements l, l + WORKGROUP, ... in f32, a binary tree in
// workgroup memory adds the partial sums (an order that depends on nothing but D), then invocation l owns the words
// l, l + WORKGROUP, ... of q. Both sums are exact or of fixed order, so a token's integers do not depend on T.
// Preceded by quantize.wgsl. Preconditions: K' is a multiple of 4; every index < D; WORKGROUP is a power of two. A padding element has mult 0 and
// offset 0.

struct Params {
  D: u32,
  K_words: u32, // K' / 4
  eps: f32,
  q_max: f32, // 7 or 127
}

struct Step {
  num_tokens: u32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>; // [T, D]
@group(0) @binding(3) var<storage, read> gather: array<vec4u>; // [K'] index | offset << 20
@group(0) @binding(4) var<storage, read> mult: array<vec4f>; // [K']
@group(0) @binding(5) var<storage, read_write> q: array<u32>; // [T, K'/4]
@group(0) @binding(6) var<storage, read_write> qmeta: array<vec2u>; // [T]

var<workgroup> partial_squares: array<f32, WORKGROUP>;
var<workgroup> partial_sums: array<i32, WORKGROUP>;

fn sum_of_squares(base: u32, lane: u32) -> f32 {
  var squares = 0.0;
  for (var k = lane; k < params.D; k += WORKGROUP) {
    squares = add_square(squares, x[base + k]);
  }
  partial_squares[lane] = squares;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      partial_squares[lane] += partial_squares[lane + width];
    }
  }
  workgroupBarrier();
  return partial_squares[0];
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
  let r = inverse_rms(sum_of_squares(base, lane), params.D, params.eps);

  var sum = 0;
  for (var word = lane; word < params.K_words; word += WORKGROUP) {
    let entry = gather[word];
    let at = base + (entry & vec4u(0xFFFFF));
    let offset = vec4f(bitcast<vec4i>(entry) >> vec4u(20));
    let source = vec4f(x[at.x], x[at.y], x[at.z], x[at.w]);
    let integers = quantize4(source * mult[word] * r, offset, params.q_max);
    sum += integers.x + integers.y + integers.z + integers.w;
    q[t * params.K_words + word] = pack_bytes(integers);
  }
  let total = sum_of_integers(sum, lane);
  if (lane == 0u) {
    qmeta[t] = vec2u(bitcast<u32>(1.0), bitcast<u32>(total));
  }
}
