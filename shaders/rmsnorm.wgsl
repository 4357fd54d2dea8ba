// RMSNorm: y[t, d] = x[t, d] * weight[d] / sqrt(mean_d(x[t, d]^2) + eps), all in float32.
//
//   x [T, D] f32, weight [D] f32  ->  y [T, D] f32, or [1, D] of the last token with LAST_ROW
//
// One workgroup per token, folded into x and y. Lane l sums the squares of elements l, l + WORKGROUP, ...; a tree in
// workgroup memory adds the lanes. The order depends on D and WORKGROUP alone, so a token's result does not depend on T.

struct Params {
  D: u32,
  eps: f32,
}

struct Step {
  num_tokens: u32,
}

override LAST_ROW: bool = false; // read row num_tokens - 1, write row 0

override WORKGROUP: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>; // [T, D]
@group(0) @binding(3) var<storage, read> weight: array<f32>; // [D]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [T, D]

var<workgroup> sums: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let t = group.y * groups.x + group.x;
  if (t >= step.num_tokens) {
    return;
  }
  let source = select(t, step.num_tokens - 1u, LAST_ROW) * params.D;
  let target_row = t * params.D;
  var sum = 0.0;
  for (var first = lane; first < params.D; first += 8u * WORKGROUP) {
    var loaded: array<f32, 8>; // in flight together
    for (var i = 0u; i < 8u; i++) {
      loaded[i] = x[source + min(first + i * WORKGROUP, params.D - 1u)];
    }
    for (var i = 0u; i < 8u; i++) {
      if (first + i * WORKGROUP < params.D) {
        sum = fma(loaded[i], loaded[i], sum);
      }
    }
  }
  sums[lane] = sum;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      sums[lane] += sums[lane + width];
    }
  }
  workgroupBarrier();
  let inverse = inverseSqrt(sums[0] / f32(params.D) + params.eps);
  for (var d = lane; d < params.D; d += WORKGROUP) {
    y[target_row + d] = x[source + d] * inverse * weight[d];
  }
}
