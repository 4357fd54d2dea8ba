// First half of argmax: the largest logit of every 1024 consecutive ones, as (ordered key, index).
//
//   logits [V] f32  ->  partials [groups] (key, index)
//
// A workgroup owns 1024 logits. Ties: lowest index. A NaN has the largest key.
// Preceded by sample_order.wgsl.

struct Params {
  V: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>; // [V] bits of f32
@group(0) @binding(2) var<storage, read_write> partials: array<vec2u>; // [groups]

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var best = vec2u(0u, NO_TOKEN);
  for (var j = lane; j < TOKENS; j += GROUP) {
    let i = group.x * TOKENS + j;
    if (i < params.V) {
      best = better(best, vec2u(ordered_key(logits[i]), i));
    }
  }
  best = reduce_best(lane, best);
  if (lane == 0u) {
    partials[group.x] = best;
  }
}
