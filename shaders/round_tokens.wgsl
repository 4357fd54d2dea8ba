// Per-token rounding: s_t = ratio * max_k |x_tk| / high, y[t, j] = s_t * clamp(round(x[t, j] / s_t), low, high), 0 for j >= K.
// With DIFFERENCE y[t, j] = x[t, j] - that.
//
//   x [T, K] f32  ->  y [T, K'] f32
//
// One workgroup per token, in a grid folded into x and y.

struct Params {
  T: u32,
  K: u32,
  width: u32, // K'
  ratio: f32,
  low: f32,
  high: f32,
}

override DIFFERENCE: bool = false;
override WORKGROUP: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [T, K]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [T, K']

var<workgroup> lanes: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let t = group.y * groups.x + group.x;
  if (t >= params.T) {
    return;
  }
  var largest = 0.0;
  for (var k = lane; k < params.K; k += WORKGROUP) {
    largest = max(largest, abs(x[t * params.K + k]));
  }
  lanes[lane] = largest;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      lanes[lane] = max(lanes[lane], lanes[lane + width]);
    }
  }
  workgroupBarrier();
  let scale = params.ratio * lanes[0] / params.high;
  for (var j = lane; j < params.width; j += WORKGROUP) {
    var value = 0.0;
    var rounded = 0.0;
    if (j < params.K) {
      value = x[t * params.K + j];
      if (scale > 0.0) {
        rounded = scale * clamp(round(value / scale), params.low, params.high);
      }
    }
    y[t * params.width + j] = select(rounded, value - rounded, DIFFERENCE);
  }
}
