// Step of each row of the migrated weight, strong scales cut at the threshold of Eq. 6 (MergeQuant):
//   steps[n] = max_k min(s_k, threshold) * |W[n, k]| / 7
//
//   W [N, K] f32, s [K] f32  ->  steps [N] f32
//
// One workgroup per row, in a grid folded into x and y.

struct Params {
  N: u32,
  K: u32,
  threshold: f32,
}

override WORKGROUP: u32 = 64; // a power of two

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>; // [N, K]
@group(0) @binding(2) var<storage, read> scales: array<f32>; // [K]
@group(0) @binding(3) var<storage, read_write> steps: array<f32>; // [N]

var<workgroup> lanes: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let n = group.y * groups.x + group.x;
  if (n >= params.N) {
    return;
  }
  var largest = 0.0;
  for (var k = lane; k < params.K; k += WORKGROUP) {
    largest = max(largest, min(scales[k], params.threshold) * abs(weights[n * params.K + k]));
  }
  lanes[lane] = largest;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      lanes[lane] = max(lanes[lane], lanes[lane + width]);
    }
  }
  if (lane == 0u) {
    steps[n] = lanes[0] / 7.0;
  }
}
