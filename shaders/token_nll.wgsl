// Negative log-likelihood of one target per token, and the most probable token:
//
//   nll[t] = ln sum_v exp(l[t, v] - m) + m - l[t, target],   m = max_v l[t, v];   top[t] = argmax_v l[t, v]
//
//   logits [T, V] f32, targets [T] u32  ->  nll [T] f32, top [T] u32
//
// One workgroup per token, two passes over its row: maximum, then the sum, in the same order whatever T is.
// Target 0xffffffff (none): 0. A row with a NaN or without a finite maximum, or a target >= V: nll NaN; for such a
// row top is 0xffffffff. Ties: lowest index. Preceded by sample_order.wgsl.

struct Params {
  V: u32,
}

struct Step {
  num_tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> logits: array<u32>; // [T, V] bits of f32
@group(0) @binding(3) var<storage, read> targets: array<u32>; // [T]
@group(0) @binding(4) var<storage, read_write> nll: array<u32>; // [T] bits of f32: a NaN cannot be written as a constant
@group(0) @binding(5) var<storage, read_write> top: array<u32>; // [T]

const NAN_BITS = 0x7fc00000u;
const INFINITY_BITS = 0x7f800000u;

var<workgroup> sums: array<f32, GROUP>;

/// The sum over the workgroup, in an order that never changes. Uniform.
fn add_sums(lane: u32, mine: f32) -> f32 {
  sums[lane] = mine;
  workgroupBarrier();
  if (lane < 16u) {
    for (var j = lane + 16u; j < GROUP; j += 16u) {
      sums[lane] += sums[j];
    }
  }
  workgroupBarrier();
  if (lane == 0u) {
    for (var j = 1u; j < 16u; j++) {
      sums[0] += sums[j];
    }
  }
  return workgroupUniformLoad(&sums[0]);
}

fn nll_bits(row: u32, target_id: u32, max_key: u32, sum: f32) -> u32 {
  if (target_id == NO_TOKEN) {
    return 0u;
  }
  if (target_id >= params.V || !is_usable(max_key)) {
    return NAN_BITS;
  }
  let key = ordered_key(logits[row + target_id]);
  if (key == NEGATIVE_INFINITY_KEY) {
    return INFINITY_BITS;
  }
  return bitcast<u32>(log(sum) + (key_value(max_key) - key_value(key)));
}

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let t = group.y * groups.x + group.x;
  if (t >= step.num_tokens) {
    return;
  }
  let row = t * params.V;
  var best = vec2u(0u, NO_TOKEN);
  for (var v = lane; v < params.V; v += GROUP) {
    best = better(best, vec2u(ordered_key(logits[row + v]), v));
  }
  best = reduce_best(lane, best);

  let maximum = key_value(best.x);
  var sum = 0.0;
  for (var v = lane; v < params.V; v += GROUP) {
    let key = ordered_key(logits[row + v]);
    if (key > NEGATIVE_INFINITY_KEY) {
      sum += exp(key_value(key) - maximum);
    }
  }
  sum = add_sums(lane, sum);
  if (lane == 0u) {
    nll[t] = nll_bits(row, targets[t], best.x, sum);
    top[t] = select(NO_TOKEN, best.y, is_usable(best.x));
  }
}
