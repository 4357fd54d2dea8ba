// Of matvec_w4_sg (it is put in front of it), where several subgroups share rows: their sums added up.

var<workgroup> sums: array<vec2i, (WORKGROUP + 3u) / 4u>; // of each subgroup, both rows; subgroups have 4 lanes or more

fn team_total(total: vec2i, local: u32, lanes: u32, split: u32) -> vec2i {
  workgroupBarrier(); // the sums of the turn before are read
  if (local % lanes == 0u) {
    sums[local / lanes] = total;
  }
  workgroupBarrier();
  let first = local / (split * lanes) * split;
  var of_team = vec2i();
  for (var i = 0u; i < split; i++) {
    of_team += sums[first + i];
  }
  return of_team;
}
