// Second pass of the naive dynamic quantizer: the scale of each token from the norm's stored output.
//   scale_t = max_k |y[t,k]| / q_max
//
//   y [T, K] f32  ->  scale [T] f32
//
// One workgroup per token; a binary tree in workgroup memory combines the invocations' maxima.

struct Params {
  K: u32,
  q_max: f32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>; // [T, K]
@group(0) @binding(2) var<storage, read_write> scale: array<f32>; // [T]

var<workgroup> maxima: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = group.x;
  var maximum = 0.0;
  for (var k = lane; k < params.K; k += WORKGROUP) {
    maximum = max(maximum, abs(y[t * params.K + k]));
  }
  maxima[lane] = maximum;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      maxima[lane] = max(maxima[lane], maxima[lane + width]);
    }
  }
  if (lane == 0u) {
    scale[t] = maxima[0] / params.q_max;
  }
}
