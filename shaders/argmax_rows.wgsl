// The largest logit of each row:  ids[t] = argmax_v logits[t, v], t = 0 .. num_tokens - 1
//
//   logits [T, V] f32  ->  ids [T] u32
//
// Ties, NaN and rows without a finite maximum as in argmax: lowest index, NO_TOKEN. One workgroup per row.
// Preceded by sample_order.wgsl.

struct Params {
  V: u32,
}

struct Step {
  num_tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> logits: array<u32>; // [T, V] bits of f32
@group(0) @binding(3) var<storage, read_write> ids: array<u32>; // [T]

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = group.x;
  if (t >= step.num_tokens) {
    return;
  }
  var best = vec2u(0u, NO_TOKEN);
  for (var i = lane; i < params.V; i += GROUP) {
    best = better(best, vec2u(ordered_key(logits[t * params.V + i]), i));
  }
  best = reduce_best(lane, best);
  if (lane == 0u) {
    ids[t] = select(NO_TOKEN, best.y, is_usable(best.x));
  }
}
