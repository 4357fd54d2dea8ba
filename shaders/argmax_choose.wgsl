// Second half of argmax: the best of the partial maxima becomes the next token, and the state advances.
//
// One workgroup. Preceded by sample_order.wgsl and sample_advance.wgsl.

@group(0) @binding(5) var<storage, read> partials: array<vec2u>; // [groups] (ordered key, index)

@compute @workgroup_size(GROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
  var best = vec2u(0u, NO_TOKEN);
  for (var g = lane; g < params.groups; g += GROUP) {
    best = better(best, partials[g]);
  }
  best = reduce_best(lane, best);
  if (lane == 0u) {
    advance(select(NO_TOKEN, best.y, is_usable(best.x)));
  }
}
