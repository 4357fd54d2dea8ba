// Weights and their vectors as the kernels that walk a model's products in one dispatch see them (it is put in front of their other
// parts), and where an invocation is.

/// One product of a layer. Positions in `tables` are in units of 16 bytes.
struct Site {
  weight_at: u32, // in units of 16 bytes
  arena: u32, // of weights_0 and weights_1
  K_pieces: u32, // K' / 32
  rows: u32, // N, even
  scale_at: u32, // [N] f32
  bias_at: u32, // [N] f32
  // Behind a norm: [K'] gather and [K'] multipliers. Else act_bits: bits of clip ratio / q_max, or of 1 / step.
  gather_at: u32,
  act_bits: u32,
}

const most_sites = 512u; // of 128 layers

override WORKGROUP: u32 = 512;

@group(0) @binding(1) var<uniform> sites: array<Site, most_sites>; // [layers, qkv o gate_up down]
@group(0) @binding(3) var<storage, read> weights_0: array<vec4u>;
@group(0) @binding(4) var<storage, read> weights_1: array<vec4u>;
@group(0) @binding(5) var<storage, read> tables: array<vec4u>;

struct Place {
  local: u32, // invocation of the workgroup
  lane: u32, // of its subgroup
}

/// The same for all invocations of a workgroup, and kept apart from what is not, so that the compiler knows.
struct Grid {
  group: u32,
  groups: u32,
  lanes: u32, // of a subgroup
}
