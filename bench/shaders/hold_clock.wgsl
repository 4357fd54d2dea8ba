// Arithmetic that takes a number of clock cycles and touches no memory: keeps the GPU's clock up, and tells how high it is.
//   state = state * 1664525 + 1013904223 modulo 2^32, `steps` times   (the linear congruential generator of Numerical Recipes)
//
// Every invocation walks a chain of its own, so a dispatch of enough of them fills the device.

struct Params {
  steps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> sink: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var state = id.x;
  for (var i = 0u; i < params.steps; i++) {
    state = state * 1664525u + 1013904223u;
  }
  // Keeps the chain from being removed; which invocation ends with this value does not matter.
  if (state == 0x12345678u) {
    sink[0] = id.x;
  }
}
