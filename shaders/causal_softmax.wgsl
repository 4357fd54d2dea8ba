// Causal softmax in place: p[h, t, j] = exp(scale * (s[h, t, j] - max_j s)) / sum over j <= t, and 0 for j > t.
//
//   s [heads, T, T] f32  ->  p [heads, T, T] f32
//
// One workgroup per row: x is t, y the head. Lane l takes elements l, l + WORKGROUP, ...; trees in workgroup memory.

struct Params {
  T: u32,
  scale: f32,
}

override WORKGROUP: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scores: array<f32>; // [heads, T, T]

var<workgroup> lanes: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (group.y * params.T + group.x) * params.T;
  let count = group.x + 1u;
  var largest = -3.4e38;
  for (var j = lane; j < count; j += WORKGROUP) {
    largest = max(largest, scores[row + j]);
  }
  lanes[lane] = largest;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      lanes[lane] = max(lanes[lane], lanes[lane + width]);
    }
  }
  workgroupBarrier();
  largest = lanes[0];
  workgroupBarrier();
  var sum = 0.0;
  for (var j = lane; j < count; j += WORKGROUP) {
    let weight = exp(params.scale * (scores[row + j] - largest));
    scores[row + j] = weight;
    sum += weight;
  }
  lanes[lane] = sum;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      lanes[lane] += lanes[lane + width];
    }
  }
  workgroupBarrier();
  let inverse = 1.0 / lanes[0];
  for (var j = lane; j < params.T; j += WORKGROUP) {
    scores[row + j] = select(0.0, scores[row + j] * inverse, j < count);
  }
}
