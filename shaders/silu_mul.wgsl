// SwiGLU gate: y[t, f] = silu(g) * u, silu(g) = g / (1 + exp(-g)),
// where the gate_up product interleaves its rows: g = gu[t, 2f], u = gu[t, 2f + 1].
//
//   gu [T, 2F] f32  ->  y [T, F] f32
//
// One invocation per element; elements of all tokens form one flat range over a grid folded into x and y.
// Preceded by silu.wgsl.

struct Params {
  F: u32,
}

struct Step {
  num_tokens: u32,
  position: u32,
}

override WORKGROUP: u32 = 64;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> gate_up: array<vec2f>; // [T, F] pairs (gate, up)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [T, F]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WORKGROUP + lane;
  if (i >= params.F * step.num_tokens) {
    return;
  }
  let pair = gate_up[i];
  y[i] = silu_gate(pair.x, pair.y);
}
