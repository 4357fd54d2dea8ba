// Bias and mask of the logits, before they are sampled:
//
//   y[v] = -inf                 where bit v of the mask is 0
//   y[v] = logits[v] + bias[v]  elsewhere
//
// A logit that is not finite stays as it is, masked or not: the sampler has to see that the model is broken.
//
//   logits [V] f32, bias [V] f32, mask [ceil(V / 32)] u32  ->  y [V] f32
//
// One invocation per token of the vocabulary. `logits` is not changed: log-probabilities are of what the model said.
// Floats travel as bits, because WGSL has no constant for -inf and compilers may assume that there is none.

struct Params {
  V: u32,
}

override WORKGROUP: u32 = 64;
const NEGATIVE_INFINITY_BITS = 0xff800000u;
const EXPONENT_BITS = 0x7f800000u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>; // [V] bits of f32
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [V]
@group(0) @binding(3) var<storage, read> mask: array<u32>; // [ceil(V / 32)]
@group(0) @binding(4) var<storage, read_write> y: array<u32>; // [V] bits of f32

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let v = (group.y * groups.x + group.x) * WORKGROUP + lane;
  if (v >= params.V) {
    return;
  }
  let bits = logits[v];
  if ((bits & EXPONENT_BITS) == EXPONENT_BITS) {
    y[v] = bits;
  } else if (((mask[v / 32u] >> (v % 32u)) & 1u) == 0u) {
    y[v] = NEGATIVE_INFINITY_BITS;
  } else {
    y[v] = bitcast<u32>(bitcast<f32>(bits) + bias[v]);
  }
}
