// SwiGLU gate and the Walsh-Hadamard rotation of down_proj's input (Hadamard variant of MergeQuant, arXiv 2503.07654 sec. 4):
//   a[t, f] = silu(gu[t, 2f]) * gu[t, 2f + 1]
//   y[t, c B + j] = 1/sqrt(B) * sum_i (-1)^popcount(i & j) * a[t, c B + i]
//
//   gu [T, 2F] f32  ->  y [T, F] f32, B a power of two that divides F
//
// Elements of all tokens form one flat range; a workgroup takes CHUNK of them, a whole number of blocks, in workgroup
// memory, and folds into x and y. log2(B) butterfly stages; each stage adds the same pair of floats wherever the block
// lies, so that a token's result does not depend on T.
// Preceded by silu.wgsl. Preconditions: CHUNK is a multiple of B and of 2 * WORKGROUP.

struct Params {
  F: u32,
  block: u32, // B
  scale: f32, // 1 / sqrt(B)
}

struct Step {
  num_tokens: u32,
}

override WORKGROUP: u32 = 128;
override CHUNK: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> gate_up: array<vec2f>; // [T, F] pairs (gate, up)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [T, F]

var<workgroup> values: array<f32, CHUNK>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let total = params.F * step.num_tokens;
  let start = (group.y * groups.x + group.x) * CHUNK;
  for (var i = lane; i < CHUNK; i += WORKGROUP) {
    var value = 0.0;
    if (start + i < total) {
      let pair = gate_up[start + i];
      value = silu_gate(pair.x, pair.y);
    }
    values[i] = value;
  }
  for (var half = 1u; half < params.block; half *= 2u) {
    workgroupBarrier();
    for (var p = lane; p < CHUNK / 2u; p += WORKGROUP) {
      let i = 2u * p - (p & (half - 1u)); // pair p: elements i and i + half
      let a = values[i];
      let b = values[i + half];
      values[i] = a + b;
      values[i + half] = a - b;
    }
  }
  workgroupBarrier();
  for (var i = lane; i < CHUNK; i += WORKGROUP) {
    if (start + i < total) {
      y[start + i] = values[i] * params.scale;
    }
  }
}
