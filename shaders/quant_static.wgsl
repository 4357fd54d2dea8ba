// Static quantization of a linear's input with one step s for all channels (o and down projections; s = 1 where
// per-channel scales were folded into the weights that produce x):
//   q[t,k] = clamp(round(x[t,k] * inverse_step), -q_max - 1, q_max),  inverse_step = 1 / s,  round half to even
//   qmeta[t] = (1.0f, sum_k q[t,k]): the step itself is folded into the scales of the weights that follow
//
//   x [T, K] f32  ->  q [T, K'] i8 packed by 4 (zero behind K), qmeta [T] (f32 bits, i32 bits)
//
// One workgroup per token; invocation l owns the words l, l + WORKGROUP, ... of q. The integer sum is exact in any order.
// Preceded by quantize.wgsl. Precondition: WORKGROUP is a power of two.

struct Params {
  K: u32,
  K_words: u32, // K' / 4
  q_max: f32, // 7 or 127
  inverse_step: f32,
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

var<workgroup> partial_sums: array<i32, WORKGROUP>;

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
  let base = t * params.K;
  var sum = 0;
  for (var word = lane; word < params.K_words; word += WORKGROUP) {
    var value = vec4f();
    for (var j = 0u; j < 4u; j++) {
      let k = 4u * word + j;
      if (k < params.K) {
        value[j] = x[base + k];
      }
    }
    let integers = quantize4(value * params.inverse_step, vec4f(), params.q_max);
    sum += integers.x + integers.y + integers.z + integers.w;
    q[t * params.K_words + word] = pack_bytes(integers);
  }
  let total = sum_of_integers(sum, lane);
  if (lane == 0u) {
    qmeta[t] = vec2u(bitcast<u32>(1.0), bitcast<u32>(total));
  }
}
