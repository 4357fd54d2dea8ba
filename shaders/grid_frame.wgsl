// Shared by the products over weight grids (it is put in front of them): what they are given, and what becomes of a sum.
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, unused), weight [rows, K'] packed levels u, grid [N, G] (step in the 24 high
//   bits, zero in the 7 low ones), bias [N] f32  ->  y [T, N] f32, columns row_start .. row_start + rows.

struct Params {
  K_pieces: u32, // K' / 32
  group_pieces: u32,
  slice_pieces: u32, // matvec_grid's
  groups: u32, // of a row
  rows: u32,
  row_start: u32,
  N: u32,
}

struct Step {
  num_tokens: u32,
}

override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> q: array<vec4u>; // [T, K'/16]
@group(0) @binding(3) var<storage, read> qmeta: array<vec2u>; // [T]
@group(0) @binding(4) var<storage, read> weight: array<u32>; // [rows, K' bits / 32]
@group(0) @binding(5) var<storage, read> grid: array<u32>; // [N, G]
@group(0) @binding(6) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [T, N]

fn dot16(a: vec4u, b: vec4u) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

fn zero_of(word: u32) -> u32 {
  return word & 0x7Fu;
}

fn step_of(word: u32) -> f32 {
  return bitcast<f32>(word & 0xFFFFFF00u);
}

/// The same expression in every product over grids, so that all of them give the same bits.
fn store(t: u32, n: u32, total: f32) {
  let at = t * params.N + n;
  var base = 0.0;
  if (HAS_BIAS) {
    base = bias[n];
  }
  if (ACCUMULATE) {
    base += y[at];
  }
  y[at] = fma(total, bitcast<f32>(qmeta[t].x), base);
}
