// Sampling 4 of 4: settles the candidates exactly, draws, and advances the state. One workgroup.
//
// Tokens rank by (max key - key, index): most probable first, ties by lowest index. Top-k and top-p each keep a prefix of
// that ranking, and so are one bound on the rank, found by radix select: 8 bits of the 64-bit rank a pass (4 passes over
// the candidates, more only among equal logits, fewer when a bin holds one token), counts for top-k, masses in 64 bits
// for top-p, whose share is of the mass that top-k left.
// Greedy (temperature 0): the largest penalized logit.
// Preceded by sample_order.wgsl, sample_filter.wgsl and sample_advance.wgsl.

@group(0) @binding(5) var<uniform> sampling: Sampling;
@group(0) @binding(6) var<storage, read> partials: array<vec2u>; // [2 groups]: maxima, then best certain scores
@group(0) @binding(7) var<storage, read> entries: array<vec2u>; // [V] (key, mass)
@group(0) @binding(8) var<storage, read> histogram: array<u32>; // [769]
@group(0) @binding(9) var<storage, read> candidates: array<u32>; // [histogram[768]]

const NO_BOUND = vec2u(0xffffffffu, 0xffffffffu);

var<workgroup> digit_count: array<atomic<u32>, BINS>;
var<workgroup> digit_low: array<atomic<u32>, BINS>;
var<workgroup> digit_high: array<atomic<u32>, BINS>;

fn clear_digits(lane: u32) {
  for (var bin = lane; bin < BINS; bin += GROUP) {
    atomicStore(&digit_count[bin], 0u);
    atomicStore(&digit_low[bin], 0u);
    atomicStore(&digit_high[bin], 0u);
  }
  workgroupBarrier();
}

fn add_to_digit(digit: u32, mass: u32) {
  atomicAdd(&digit_count[digit], 1u);
  let old = atomicAdd(&digit_low[digit], mass);
  if (old + mass < old) {
    atomicAdd(&digit_high[digit], 1u);
  }
}

fn accumulate_digits(lane: u32) {
  workgroupBarrier();
  for (var bin = lane; bin < BINS; bin += GROUP) {
    cumulative_count[bin] = atomicLoad(&digit_count[bin]);
    cumulative_mass[bin] = vec2u(atomicLoad(&digit_low[bin]), atomicLoad(&digit_high[bin]));
  }
  accumulate_bins(lane);
}

fn within(rank: vec2u, bound: vec2u) -> bool {
  return rank.x < bound.x || (rank.x == bound.x && rank.y <= bound.y);
}

/// The 64-bit rank's digits above `level` equal those of `prefix`.
fn has_prefix(rank: vec2u, prefix: vec2u, level: u32) -> bool {
  let shift = 24u - 8u * (level % 4u);
  let mask = select(0xffffffffu << (shift + 8u), 0u, shift == 24u);
  if (level < 4u) {
    return ((rank.x ^ prefix.x) & mask) == 0u;
  }
  return rank.x == prefix.x && ((rank.y ^ prefix.y) & mask) == 0u;
}

/// The mass of the candidates within the bound.
fn mass_within(lane: u32, top_key: u32, number: u32, bound: vec2u) -> vec2u {
  clear_digits(lane);
  for (var slot = lane; slot < number; slot += GROUP) {
    let i = candidates[slot];
    if (within(vec2u(top_key - entries[i].x, i), bound)) {
      add_to_digit(lane, entries[i].y);
    }
  }
  accumulate_digits(lane);
  return workgroupUniformLoad(&cumulative_mass[BINS - 1u]);
}

/// The bound that keeps the fewest candidates, best first and all within `outer`, whose count (or mass) reaches `wanted`.
fn select_bound(lane: u32, top_key: u32, number: u32, outer: vec2u, wanted: vec2u, by_mass: bool) -> vec2u {
  var prefix = vec2u(0u);
  var need = wanted;
  for (var level = 0u; level < 8u; level++) {
    let word = level / 4u;
    let shift = 24u - 8u * (level % 4u);
    clear_digits(lane);
    for (var slot = lane; slot < number; slot += GROUP) {
      let i = candidates[slot];
      let rank = vec2u(top_key - entries[i].x, i);
      if (within(rank, outer) && has_prefix(rank, prefix, level)) {
        add_to_digit((rank[word] >> shift) & 0xffu, entries[i].y);
      }
    }
    accumulate_digits(lane);
    let bin = find_bin(lane, need, by_mass);
    need = subtract64(need, select(vec2u(bin.count_below, 0u), bin.mass_below, by_mass));
    prefix[word] |= bin.index << shift;
    if (bin.count == 1u || (!by_mass && need.x == bin.count)) {
      let rest = (1u << shift) - 1u;
      return select(vec2u(prefix.x, prefix.y | rest), vec2u(prefix.x | rest, 0xffffffffu), level < 4u);
    }
  }
  return prefix;
}

/// The bound on the candidates' ranks that top-k and top-p set together.
fn filter_bound(lane: u32, top_key: u32, number: u32) -> vec2u {
  for (var bin = lane; bin < BINS; bin += GROUP) {
    cumulative_count[bin] = histogram[bin];
    cumulative_mass[bin] = vec2u(histogram[BINS + bin], histogram[2u * BINS + bin]);
  }
  accumulate_bins(lane);
  let split = find_split(lane, sampling);
  var bound = NO_BOUND;
  var total = split.mass;
  if (sampling.top_k > 0u) {
    let wanted = min(sampling.top_k, split.count) - split.count_below;
    bound = select_bound(lane, top_key, number, bound, vec2u(wanted, 0u), false);
    total = add64(split.mass_below, mass_within(lane, top_key, number, bound));
  }
  if (sampling.top_p > 0u) {
    let wanted = subtract64(share_of(total, sampling.top_p), split.mass_below);
    bound = select_bound(lane, top_key, number, bound, wanted, true);
  }
  return bound;
}

/// The token with the best score among the certain ones and the candidates that stay. Uniform.
fn draw(lane: u32, top_key: u32) -> u32 {
  var best = vec2u(0u, NO_TOKEN);
  for (var g = lane; g < params.groups; g += GROUP) {
    best = better(best, partials[params.groups + g]);
  }
  if (is_filtered(sampling)) {
    let number = histogram[3u * BINS];
    let bound = filter_bound(lane, top_key, number);
    for (var slot = lane; slot < number; slot += GROUP) {
      let i = candidates[slot];
      let t = distance_of(sampling, top_key, entries[i].x);
      if (within(vec2u(top_key - entries[i].x, i), bound) && t <= sampling.min_p_limit) {
        best = better(best, vec2u(score_key(sampling, t, step.generated, i), i));
      }
    }
  }
  return reduce_best(lane, best).y;
}

@compute @workgroup_size(GROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
  var top = vec2u(0u, NO_TOKEN);
  for (var g = lane; g < params.groups; g += GROUP) {
    top = better(top, partials[g]);
  }
  top = reduce_best(lane, top);
  var token = select(NO_TOKEN, top.y, is_usable(top.x));
  if (token != NO_TOKEN && sampling.inverse_temperature > 0.0) {
    token = draw(lane, top.x);
  }
  if (lane == 0u) {
    advance(token);
  }
}
