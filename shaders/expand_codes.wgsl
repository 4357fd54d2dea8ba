// Dequantized weights: w[n, k] = scale[n] * code[n, k], codes as signed bytes, four a word.
//
//   codes [N, K/4] u32, scale [N] f32  ->  w [N, K] f32 (K a multiple of 4)
//
// One invocation per word, in one flat range over a grid folded into x and y.

struct Params {
  N: u32,
  words: u32, // of a row
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<u32>; // [N, words]
@group(0) @binding(2) var<storage, read> scales: array<f32>; // [N]
@group(0) @binding(3) var<storage, read_write> w: array<vec4f>; // [N, words]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WORKGROUP + lane;
  if (i >= params.N * params.words) {
    return;
  }
  let code = vec4f(vec4i(vec4u(codes[i]) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
  w[i] = code * scales[i / params.words];
}
