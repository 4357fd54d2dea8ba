// Codes of a quantized key-value cache, put behind kv_int8.wgsl or kv_int4.wgsl. A row (one position of one head) has a step
// and a minimum of its own, from its smallest and largest element:
//   x ~ minimum + step u,   u = clamp(round((x - minimum) / step), 0, 2^bits - 1),   step = (largest - minimum) / (2^bits - 1)
// Both are floats of 16 bits (the upper half of a float32), in one word: step above, minimum below. The minimum is rounded
// down and the step up, by integer arithmetic, so that every element lies within the codes whatever the device.

const scaled = true;

struct RowCode {
  bits: u32,
  minimum: f32,
  inverse: f32, // 1 / step; 0 for a step of 0
}

const upper = 0xffff0000u;

/// The largest 16-bit float that is not above x.
fn rounded_down(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(bits, bits + 0xffffu, x < 0.0) & upper;
}

/// The smallest 16-bit float that is not below x, for x >= 0.
fn rounded_up(x: f32) -> u32 {
  return (bitcast<u32>(x) + 0xffffu) & upper;
}

fn row_code(lowest_element: f32, largest_element: f32) -> RowCode {
  let minimum_bits = rounded_down(lowest_element);
  let minimum = bitcast<f32>(minimum_bits);
  let step_bits = rounded_up((largest_element - minimum) / largest_code);
  let step = bitcast<f32>(step_bits);
  return RowCode(step_bits | (minimum_bits >> 16u), minimum, select(0.0, 1.0 / step, step > 0.0));
}

fn codes_of(x: vec4f, row: RowCode) -> vec4u {
  return vec4u(clamp(round((x - row.minimum) * row.inverse), vec4f(), vec4f(largest_code)));
}

/// (step, minimum) of a stored row.
fn scale_of(bits: u32) -> vec2f {
  return vec2f(bitcast<f32>(bits & upper), bitcast<f32>(bits << 16u));
}
