// A row's scale of least weighted squared error on a grid of parts of max |w| / high:
//   e(s) = sum_k c_k (w_k - s * clamp(round(w_k / s), low, high))^2,  s = part_i * max |w| / high;  1 for a row of zeros
//
//   w [rows, K] f32, c [K] f32, parts [P] f32 (falling)  ->  scale [rows] f32
//
// One workgroup per row, in a grid folded into x and y; the first of equal errors wins.

struct Params {
  rows: u32,
  K: u32,
  P: u32,
  low: f32,
  high: f32,
}

override WORKGROUP: u32 = 64; // a power of two

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>; // [rows, K]
@group(0) @binding(2) var<storage, read> column_weights: array<f32>; // [K]
@group(0) @binding(3) var<storage, read> parts: array<f32>; // [P]
@group(0) @binding(4) var<storage, read_write> scales: array<f32>; // [rows]

var<workgroup> lanes: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let start = row * params.K;
  var largest = 0.0;
  for (var k = lane; k < params.K; k += WORKGROUP) {
    largest = max(largest, abs(w[start + k]));
  }
  lanes[lane] = largest;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      lanes[lane] = max(lanes[lane], lanes[lane + width]);
    }
  }
  workgroupBarrier();
  let widest = workgroupUniformLoad(&lanes[0]) / params.high;
  var best = 1.0;
  if (widest > 0.0) {
    var least = 3.4e38;
    best = widest;
    for (var part = 0u; part < params.P; part++) {
      let scale = widest * parts[part];
      var error = 0.0;
      for (var k = lane; k < params.K; k += WORKGROUP) {
        let value = w[start + k];
        let lost = value - scale * clamp(floor(value / scale + 0.5), params.low, params.high);
        error = fma(lost * lost, column_weights[k], error);
      }
      workgroupBarrier();
      lanes[lane] = error;
      for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (lane < width) {
          lanes[lane] += lanes[lane + width];
        }
      }
      workgroupBarrier();
      let total = workgroupUniformLoad(&lanes[0]);
      if (total < least) {
        least = total;
        best = scale;
      }
    }
  }
  if (lane == 0u) {
    scales[row] = best;
  }
}
