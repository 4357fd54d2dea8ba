// Third pass of the naive dynamic quantizer: integers and their sum from the norm's stored output and the stored scale.
//   q[t,k] = clamp(round(y[t,k] / scale_t), -q_max - 1, q_max);  qmeta[t] = (scale_t, sum_k q[t,k])
//
//   y [T, K] f32, scale [T] f32  ->  q [T, K/4] u32 (i8 packed by 4), qmeta [T] (f32 bits, i32 bits)
//
// One workgroup per token; invocation l owns the words l, l + WORKGROUP, ... of q. Precondition: K is a multiple of 4.

struct Params {
  K: u32,
  q_max: f32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> y: array<vec4f>; // [T, K/4]
@group(0) @binding(2) var<storage, read> scale: array<f32>; // [T]
@group(0) @binding(3) var<storage, read_write> q: array<u32>; // [T, K/4]
@group(0) @binding(4) var<storage, read_write> qmeta: array<vec2u>; // [T]

var<workgroup> sums: array<i32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = group.x;
  let words = params.K / 4u;
  let inverse = select(0.0, 1.0 / scale[t], scale[t] > 0.0);
  var sum = 0;
  for (var word = lane; word < words; word += WORKGROUP) {
    let scaled = round(y[t * words + word] * inverse);
    let integers = vec4i(clamp(scaled, vec4f(-params.q_max - 1.0), vec4f(params.q_max)));
    sum += integers.x + integers.y + integers.z + integers.w;
    let bytes = (bitcast<vec4u>(integers) & vec4u(0xFF)) << vec4u(0, 8, 16, 24);
    q[t * words + word] = bytes.x | bytes.y | bytes.z | bytes.w;
  }
  sums[lane] = sum;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      sums[lane] += sums[lane + width];
    }
  }
  if (lane == 0u) {
    qmeta[t] = vec2u(bitcast<u32>(scale[t]), bitcast<u32>(sums[0]));
  }
}
