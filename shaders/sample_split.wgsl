// Sampling 3 of 4: tokens that top-k and top-p keep for certain compete at once; those near a cut become candidates
// for sample_draw; the others are dropped. Without top-k and top-p every token is certain.
//
//   entries [V], histogram  ->  partials [groups .. 2 groups) (score key, index), candidates, histogram[768] = their number
//
// A workgroup owns 1024 tokens. The order of the candidates is arbitrary; nothing that follows depends on it.
// min-p needs no counting: it is a limit on a token's distance from the maximum. Nothing to do when greedy.
// Preceded by sample_order.wgsl and sample_filter.wgsl.

struct Params {
  V: u32,
  groups: u32,
}

struct Step {
  num_tokens: u32,
  position: u32,
  generated: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<uniform> sampling: Sampling;
@group(0) @binding(3) var<storage, read> entries: array<vec2u>; // [V] (key, mass)
@group(0) @binding(4) var<storage, read_write> partials: array<vec2u>; // [2 groups]
@group(0) @binding(5) var<storage, read_write> histogram: array<atomic<u32>>; // [769]
@group(0) @binding(6) var<storage, read_write> candidates: array<u32>; // [V] token ids

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (sampling.inverse_temperature == 0.0) {
    return;
  }
  var top = vec2u(0u, NO_TOKEN);
  for (var g = lane; g < params.groups; g += GROUP) {
    top = better(top, partials[g]);
  }
  top = reduce_best(lane, top);

  var first = ALL_BINS;
  var last = ALL_BINS;
  if (is_filtered(sampling)) {
    for (var bin = lane; bin < BINS; bin += GROUP) {
      cumulative_count[bin] = atomicLoad(&histogram[bin]);
      cumulative_mass[bin] = vec2u(atomicLoad(&histogram[BINS + bin]), atomicLoad(&histogram[2u * BINS + bin]));
    }
    accumulate_bins(lane);
    let split = find_split(lane, sampling);
    first = split.first;
    last = split.last;
  }

  var best = vec2u(0u, NO_TOKEN);
  for (var j = lane; j < TOKENS; j += GROUP) {
    let i = group.x * TOKENS + j;
    if (i < params.V && entries[i].x > NEGATIVE_INFINITY_KEY) {
      let t = distance_of(sampling, top.x, entries[i].x);
      let bin = bin_of(t);
      if (bin < first && t <= sampling.min_p_limit) {
        best = better(best, vec2u(score_key(sampling, t, step.generated, i), i));
      } else if (bin >= first && bin <= last) {
        candidates[atomicAdd(&histogram[3u * BINS], 1u)] = i;
      }
    }
  }
  best = reduce_best(lane, best);
  if (lane == 0u) {
    partials[params.groups + group.x] = best;
  }
}
