// Shared by the kernels that apply SwiGLU's gate (it is put in front of them).

/// silu(gate) * up, silu(g) = g / (1 + exp(-g)).
fn silu_gate(gate: f32, up: f32) -> f32 {
  return gate / (1.0 + exp(-gate)) * up;
}
