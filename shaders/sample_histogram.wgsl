// Sampling 2 of 4: how many tokens, and how much probability mass, lie in each coarse bin. Nothing to do unless top-k
// or top-p is on. Logits of -inf are left out here and in what follows: they can never be drawn.
//
//   entries [V] (key, -)  ->  entries [V] (key, mass), histogram (count [256], mass low [256], mass high [256])
//
// A workgroup owns 1024 tokens; it counts in workgroup memory and then adds to the whole. The carry of the 64-bit
// additions comes from the old low word that each atomic addition returns, so the totals are exact in any order.
// Preceded by sample_order.wgsl and sample_filter.wgsl.

struct Params {
  V: u32,
  groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> sampling: Sampling;
@group(0) @binding(2) var<storage, read> partials: array<vec2u>; // [2 groups]
@group(0) @binding(3) var<storage, read_write> entries: array<vec2u>; // [V]
@group(0) @binding(4) var<storage, read_write> histogram: array<atomic<u32>>; // [769]

var<workgroup> bin_count: array<atomic<u32>, BINS>;
var<workgroup> bin_low: array<atomic<u32>, BINS>;
var<workgroup> bin_high: array<atomic<u32>, BINS>;

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (!is_filtered(sampling)) {
    return;
  }
  for (var bin = lane; bin < BINS; bin += GROUP) {
    atomicStore(&bin_count[bin], 0u);
    atomicStore(&bin_low[bin], 0u);
    atomicStore(&bin_high[bin], 0u);
  }
  var top = vec2u(0u, NO_TOKEN);
  for (var g = lane; g < params.groups; g += GROUP) {
    top = better(top, partials[g]);
  }
  top = reduce_best(lane, top);

  for (var j = lane; j < TOKENS; j += GROUP) {
    let i = group.x * TOKENS + j;
    if (i < params.V && entries[i].x > NEGATIVE_INFINITY_KEY) {
      let t = distance_of(sampling, top.x, entries[i].x);
      let bin = bin_of(t);
      let mass = mass_of(t);
      entries[i].y = mass;
      atomicAdd(&bin_count[bin], 1u);
      let old = atomicAdd(&bin_low[bin], mass);
      if (old + mass < old) {
        atomicAdd(&bin_high[bin], 1u);
      }
    }
  }
  workgroupBarrier();

  for (var bin = lane; bin < BINS; bin += GROUP) {
    let count = atomicLoad(&bin_count[bin]);
    if (count > 0u) {
      let low = atomicLoad(&bin_low[bin]);
      atomicAdd(&histogram[bin], count);
      let old = atomicAdd(&histogram[BINS + bin], low);
      let carry = select(0u, 1u, old + low < old);
      atomicAdd(&histogram[2u * BINS + bin], atomicLoad(&bin_high[bin]) + carry);
    }
  }
}
