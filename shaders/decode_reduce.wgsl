// Shared by the prologues of `decode_product` (it is put in front of them): reductions of a workgroup in few barriers. Each
// may be called once, in uniform control flow; every invocation gets the result.

const norm_lanes = 256u; // invocations whose partial sums a norm adds: those of rmsnorm_quant_static and _dynamic

var<workgroup> partial_sums: array<f32, norm_lanes>;
var<workgroup> partial_maxima: array<f32, WORKGROUP / 4u>; // of subgroups, which have 4 lanes or more

/// The binary tree of the norm kernels over the first 256 invocations: a lane and its partner add the same two numbers, so each
/// lane ends with the bits of lane 0. Subgroups of 32 lanes and more each walk it for themselves, smaller ones its last steps.
fn tree_sum(value: f32, local: u32, lane: u32, lanes: u32) -> f32 {
  if (local < norm_lanes) {
    partial_sums[local] = value;
  }
  if (lanes >= 32u) {
    workgroupBarrier();
    var parts: array<f32, 8>;
    for (var j = 0u; j < 8u; j++) {
      parts[j] = partial_sums[32u * j + lane % 32u];
    }
    var sum = ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
    for (var width = 16u; width > 0u; width /= 2u) {
      sum += subgroupShuffleXor(sum, width);
    }
    return sum;
  }
  for (var width = norm_lanes / 2u; width >= lanes; width /= 2u) {
    workgroupBarrier();
    if (local < width) {
      partial_sums[local] += partial_sums[local + width];
    }
  }
  workgroupBarrier();
  var sum = partial_sums[lane];
  for (var width = lanes / 2u; width > 0u; width /= 2u) {
    sum += subgroupShuffleXor(sum, width);
  }
  return sum;
}

/// The largest of the non-negative values of a workgroup.
fn largest(value: f32, local: u32, lane: u32, lanes: u32) -> f32 {
  let of_subgroup = subgroupMax(value);
  if (lane == 0u) {
    partial_maxima[local / lanes] = of_subgroup;
  }
  workgroupBarrier();
  var maximum = 0.0;
  for (var i = lane; i < WORKGROUP / lanes; i += lanes) {
    maximum = max(maximum, partial_maxima[i]);
  }
  return subgroupMax(maximum);
}
