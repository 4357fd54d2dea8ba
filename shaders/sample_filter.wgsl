// Shared by the sampling kernels (put in front of them, after sample_order.wgsl): probabilities as integers,
// cumulative histograms, and the coarse place of the top-k and top-p cuts.
//
// distance   t_i = (max - a_i) / temperature >= 0, a_i the penalized logit; probability is proportional to exp(-t_i)
// mass       round(exp(-t_i) * 2^31), a u32; masses are summed in 64 bits (vec2u: low, high), so a sum does not
//            depend on the order of its additions
// bin        floor(10 t_i), at most 255: a monotone coarse key. The cut of a filter lies in one bin: tokens of lower
//            bins are in, of higher bins out, and only those of the bin itself need an exact comparison.
// score      g_i - t_i, g_i = -ln(E_i) standard Gumbel noise, E_i exponential. The survivor with the largest score is a
//            draw from the survivors' softmax (Gumbel-max): no normalization and no prefix sum. E_i depends on
//            (seed, generated, i) alone, through pcg3d (Jarzynski & Olano, Hash Functions for GPU Rendering, 2020).

struct Sampling {
  inverse_temperature: f32, // 0: greedy
  cutoff: f32, // 80 * temperature. Gumbel noise lies in [-3.2, 22.9]: beyond t = 27 nothing can win, so 80 is as far as any
  top_k: u32, // 0: off
  top_p: u32, // p * 2^32; 0: off
  min_p_limit: f32, // -ln(min_p), the largest distance that stays
  repetition_penalty: f32,
  presence_penalty: f32,
  frequency_penalty: f32,
  seed: u32,
  penalize: u32, // 1 when any penalty is on
}

const BINS = 256u;
const ALL_BINS = 256u;

fn is_filtered(sampling: Sampling) -> bool {
  return sampling.inverse_temperature > 0.0 && (sampling.top_k > 0u || sampling.top_p > 0u);
}

fn distance_of(sampling: Sampling, max_key: u32, key: u32) -> f32 {
  return min(key_value(max_key) - key_value(key), sampling.cutoff) * sampling.inverse_temperature;
}

fn bin_of(t: f32) -> u32 {
  return min(BINS - 1u, u32(t * 10.0));
}

fn mass_of(t: f32) -> u32 {
  return u32(exp(-t) * 2147483648.0 + 0.5);
}

fn pcg3d(input: vec3u) -> vec3u {
  var v = input * 1664525u + 1013904223u;
  v.x += v.y * v.z;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v ^= v >> vec3u(16u);
  v.x += v.y * v.z;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  return v;
}

/// -ln(1 - v) for v = (h + 1/2) / 2^32, precise near 0, where the winners are: ln(1 - v) = -2 artanh(v / (2 - v)).
fn exponential(h: u32) -> f32 {
  const ulp = 2.3283064365386963e-10; // 2^-32
  if (h >= 0x40000000u) {
    return -log(f32(~h) * ulp + 0.5 * ulp);
  }
  let v = f32(h) * ulp + 0.5 * ulp;
  let s = v / (2.0 - v); // at most 1/7: the series' next term is below 2^-31 of the sum
  let q = s * s;
  return 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0)))));
}

/// Ordered key of the token's score.
fn score_key(sampling: Sampling, t: f32, generated: u32, token: u32) -> u32 {
  let noise = -log(exponential(pcg3d(vec3u(sampling.seed, generated, token)).z));
  return ordered_key(bitcast<u32>(noise - t));
}

fn add64(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn subtract64(a: vec2u, b: vec2u) -> vec2u {
  return vec2u(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn less64(a: vec2u, b: vec2u) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn multiply32(a: u32, b: u32) -> vec2u {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let middle = a1 * b0 + ((a0 * b0) >> 16u);
  let middle2 = a0 * b1 + (middle & 0xffffu);
  return vec2u(a * b, a1 * b1 + (middle >> 16u) + (middle2 >> 16u));
}

/// The mass that top-p must reach: ceil(total * top_p / 2^32), at least 1.
fn share_of(total: vec2u, top_p: u32) -> vec2u {
  let low = multiply32(total.x, top_p);
  let share = add64(multiply32(total.y, top_p), vec2u(low.y, 0u));
  return add64(share, vec2u(select(0u, 1u, low.x > 0u || all(share == vec2u(0u))), 0u));
}

var<workgroup> cumulative_count: array<u32, BINS>;
var<workgroup> cumulative_mass: array<vec2u, BINS>;

/// Turns the bins' counts and masses into inclusive prefix sums: 16 lanes over 16 bins each, one lane over the totals
/// of these, then each lane adds what is before its bins. Uniform control flow.
fn accumulate_bins(lane: u32) {
  workgroupBarrier();
  if (lane < 16u) {
    for (var bin = 16u * lane + 1u; bin < 16u * lane + 16u; bin++) {
      add_bin(bin, bin - 1u);
    }
  }
  workgroupBarrier();
  if (lane == 0u) {
    for (var end = 31u; end < BINS; end += 16u) {
      add_bin(end, end - 16u);
    }
  }
  workgroupBarrier();
  for (var bin = lane; bin < BINS; bin += GROUP) {
    if (bin >= 16u && bin % 16u != 15u) {
      add_bin(bin, (bin & ~15u) - 1u);
    }
  }
  workgroupBarrier();
}

fn add_bin(bin: u32, other: u32) {
  cumulative_count[bin] += cumulative_count[other];
  cumulative_mass[bin] = add64(cumulative_mass[bin], cumulative_mass[other]);
}

struct Bin {
  index: u32,
  count: u32, // tokens in it
  count_below: u32,
  mass_below: vec2u,
}

var<workgroup> found: Bin;

/// After accumulate_bins: the first bin up to which the count (or the mass) reaches `need` >= 1; the last, if none.
fn find_bin(lane: u32, need: vec2u, by_mass: bool) -> Bin {
  for (var bin = lane; bin < BINS; bin += GROUP) {
    var count_below = 0u;
    var mass_below = vec2u(0u);
    if (bin > 0u) {
      count_below = cumulative_count[bin - 1u];
      mass_below = cumulative_mass[bin - 1u];
    }
    let up_to = select(vec2u(cumulative_count[bin], 0u), cumulative_mass[bin], by_mass);
    let below = select(vec2u(count_below, 0u), mass_below, by_mass);
    let reached = !less64(up_to, need) || bin == BINS - 1u;
    if (reached && less64(below, need)) {
      found = Bin(bin, cumulative_count[bin] - count_below, count_below, mass_below);
    }
  }
  return workgroupUniformLoad(&found);
}

/// Bins below `first` are in (up to top-k and top-p), bins above `last` are out, those between need a closer look.
struct Split {
  first: u32,
  last: u32,
  count_below: u32, // of the bins below `first`
  mass_below: vec2u,
  count: u32, // of all bins
  mass: vec2u,
}

/// After accumulate_bins over all tokens. With both filters on, top-p's share is of the mass that top-k leaves, which
/// is known only up to the mass of top-k's bin: the least it can be gives a bin that is certain.
fn find_split(lane: u32, sampling: Sampling) -> Split {
  var split = Split(ALL_BINS, ALL_BINS, 0u, vec2u(0u), workgroupUniformLoad(&cumulative_count[BINS - 1u]),
                    workgroupUniformLoad(&cumulative_mass[BINS - 1u]));
  var least_mass = split.mass;
  if (sampling.top_k > 0u) {
    let bin = find_bin(lane, vec2u(min(sampling.top_k, split.count), 0u), false);
    split.first = bin.index;
    split.last = bin.index;
    split.count_below = bin.count_below;
    split.mass_below = bin.mass_below;
    least_mass = bin.mass_below;
  }
  if (sampling.top_p > 0u) {
    let bin = find_bin(lane, share_of(least_mass, sampling.top_p), true);
    split.first = min(split.first, bin.index);
    split.last = select(bin.index, split.last, sampling.top_k > 0u);
    split.count_below = bin.count_below;
    split.mass_below = bin.mass_below;
  }
  return split;
}
