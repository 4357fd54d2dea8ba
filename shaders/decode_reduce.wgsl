// Shared by the prologues of `decode_product` (it is put in front of them): reductions of a workgroup in few barriers. Each
// may be called once, in uniform control flow; every invocation gets the result.

const norm_lanes = 256u; // invocations whose partial sums a norm adds: those of rmsnorm_quant_static and _dynamic

var<workgroup> partial_sums: array<f32, norm_lanes>;
var<workgroup> partial_maxima: array<f32, WORKGROUP / 4u>; // of subgroups, which have 4 lanes or more

/// The binary tree of the norm kernels over the first 256 invocations, its last steps within subgroups: a lane and its
/// partner add the same two numbers, so each lane ends with the bits of lane 0.
fn tree_sum(value: f32, local: u32, lane: u32, lanes: u32) -> f32 {
  if (local < norm_lanes) {
    partial_sums[local] = value;
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
