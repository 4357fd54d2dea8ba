// Shared by the kernels that turn floats into activation integers (it is put in front of them): one text, so that a token
// gets the same integers wherever it is quantized.

const smallest_normal = 1.1754944e-38;

/// clamp(round(value) + offset, -q_max - 1, q_max), round half to even.
fn quantize4(value: vec4f, offset: vec4f, q_max: f32) -> vec4i {
  return vec4i(clamp(round(value) + offset, vec4f(-q_max - 1.0), vec4f(q_max)));
}

/// Four integers as the bytes of a word, the first one lowest.
fn pack_bytes(integers: vec4i) -> u32 {
  let bytes = (bitcast<vec4u>(integers) & vec4u(0xFF)) << vec4u(0, 8, 16, 24);
  return bytes.x | bytes.y | bytes.z | bytes.w;
}

struct DynamicScale {
  scale: f32,
  inverse: f32,
}

/// s = scale_factor * maximum and 1 / s; both 0 when s is not a normal number (an all-zero token).
fn dynamic_scale(maximum: f32, scale_factor: f32) -> DynamicScale {
  let raw = maximum * scale_factor;
  let usable = raw >= smallest_normal;
  return DynamicScale(select(0.0, raw, usable), select(0.0, 1.0 / raw, usable));
}

/// One more element in a norm's sum of squares.
fn add_square(sum: f32, value: f32) -> f32 {
  return fma(value, value, sum);
}

/// 1 / sqrt(mean of squares + eps).
fn inverse_rms(squares: f32, D: u32, eps: f32) -> f32 {
  return inverseSqrt(squares / f32(D) + eps);
}
