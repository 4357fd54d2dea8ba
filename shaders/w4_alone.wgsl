// Of matvec_w4_sg (it is put in front of it), where each subgroup has rows of its own. No workgroup memory, which would be zeroed
// by every workgroup.

fn team_total(total: vec2i, local: u32, lanes: u32, split: u32) -> vec2i {
  return total;
}
