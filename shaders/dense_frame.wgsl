// Shared by the dense products (it is put in front of them): what they are given, and what becomes of a sum.
//
//   x [T, K] f32, weight [rows, stride] f16, f32 or int8 with scale [N]  ->  y [T, N] f32, columns row_start .. row_start + rows
//
// Padding elements of a weight row are 0. Nothing is read of x beyond K.

struct Params {
  K: u32,
  rows: u32, // of this block
  row_start: u32,
  N: u32,
  quads: u32, // 16-byte words of a stored weight row
}

struct Step {
  num_tokens: u32,
}

override ELEMENT_BYTES: u32 = 2; // weights are 4: floats, 2: halves, 1: signed bytes with a scale a row
override K_ALIGN: u32 = 8; // 16 (of bytes) or 8, 4 or 1: the largest of these that divides K
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4f>; // [T, K] floats, seen in fours
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, N]
@group(0) @binding(6) var<storage, read> scale: array<f32>; // [N] of bytes

fn x_element(token: u32, k: u32) -> f32 {
  if (k >= params.K) {
    return 0.0;
  }
  let i = token * params.K + k;
  return x[i / 4u][i % 4u];
}

// Four signed bytes, the lowest first.
fn bytes_of(word: u32) -> vec4f {
  return vec4f(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}

fn store(token: u32, row: u32, row_sum: f32) {
  let n = params.row_start + row;
  var sum = row_sum;
  if (ELEMENT_BYTES == 1u) {
    sum *= scale[n];
  }
  if (HAS_BIAS) {
    sum += bias[n];
  }
  if (ACCUMULATE) {
    sum += y[token * params.N + n];
  }
  y[token * params.N + n] = sum;
}
