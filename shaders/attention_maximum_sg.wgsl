// As attention_maximum.wgsl, with subgroups: the same number, since a maximum has no order. Invocations form subgroups in the
// order of their index.

var<workgroup> maxima: array<f32, LANES / 4u>; // of subgroups, which have 4 lanes or more

fn maximum(score: f32, lane: u32) -> f32 {
  let subgroup_lanes = subgroupAdd(1u);
  let of_subgroup = subgroupMax(score);
  if (lane % subgroup_lanes == 0u) {
    maxima[lane / subgroup_lanes] = of_subgroup;
  }
  workgroupBarrier();
  var m = lowest;
  for (var i = lane % subgroup_lanes; i < LANES / subgroup_lanes; i += subgroup_lanes) {
    m = max(m, maxima[i]);
  }
  return subgroupMax(m);
}
