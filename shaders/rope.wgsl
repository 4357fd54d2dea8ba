// Shared by the kernels that rotate queries and keys (it is put in front of them). With (c, s) the cosine and sine of a
// pair (low, high) = (v[i], v[i + Dh/2]), as Hugging Face's Llama pairs elements:

fn rotated_low(low: f32, high: f32, angle: vec2f) -> f32 {
  return fma(low, angle.x, -(high * angle.y));
}

fn rotated_high(low: f32, high: f32, angle: vec2f) -> f32 {
  return fma(high, angle.x, low * angle.y);
}
