// Sampling 1 of 4: penalties, and the largest penalized logit of every 1024 tokens.
//
//   repetition (token of prompt or reply): a = l / r for l > 0, else l * r
//   presence, frequency (token of the reply, n times): a -= presence + frequency * n
//
//   logits [V] f32, counts [V]  ->  entries [V] (ordered key of a, mass: left to sample_histogram), partials [groups] (key, index)
//
// A workgroup owns 1024 tokens. Workgroup 0 also clears the histogram for
// sample_histogram. Preceded by sample_order.wgsl and sample_filter.wgsl.

struct Params {
  V: u32,
  groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> sampling: Sampling;
@group(0) @binding(2) var<storage, read> logits: array<u32>; // [V] bits of f32
@group(0) @binding(3) var<storage, read> counts: array<u32>; // [V]
@group(0) @binding(4) var<storage, read_write> entries: array<vec2u>; // [V]
@group(0) @binding(5) var<storage, read_write> partials: array<vec2u>; // [2 groups], the first half
@group(0) @binding(6) var<storage, read_write> histogram: array<u32>; // [769]

fn penalized_key(i: u32) -> u32 {
  let bits = logits[i];
  if (sampling.penalize == 0u || is_nan_bits(bits) || counts[i] == 0u) {
    return ordered_key(bits);
  }
  let logit = bitcast<f32>(bits);
  var a = select(logit * sampling.repetition_penalty, logit / sampling.repetition_penalty, logit > 0.0);
  let occurrences = counts[i] & 0x7fffffffu;
  if (occurrences > 0u) {
    a -= sampling.presence_penalty + sampling.frequency_penalty * f32(occurrences);
  }
  return ordered_key(bitcast<u32>(a));
}

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (group.x == 0u) {
    for (var i = lane; i < 3u * BINS + 1u; i += GROUP) {
      histogram[i] = 0u;
    }
  }
  var best = vec2u(0u, NO_TOKEN);
  for (var j = lane; j < TOKENS; j += GROUP) {
    let i = group.x * TOKENS + j;
    if (i < params.V) {
      let key = penalized_key(i);
      entries[i] = vec2u(key, 0u);
      best = better(best, vec2u(key, i));
    }
  }
  best = reduce_best(lane, best);
  if (lane == 0u) {
    partials[group.x] = best;
  }
}
