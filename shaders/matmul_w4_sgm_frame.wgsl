// What the int4 products on subgroup matrices share (src/kernels/matrix-tile.ts writes what is put behind this file and brings
// `tiles`): bindings, loads, and the epilogue.
//
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
// or, with SILU, over pairs of rows (gate 2f, up 2f + 1):  y[t,f] = silu(value[t,2f]) * value[t,2f+1].
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows (SILU: y [T, N/2]).   i32 accumulators, exact.
//
// The layout of weights is that of `matmul_w4`. What lies beyond K' is loaded as zero; beyond T or rows, the last token or
// row once more, whose sums nobody stores. Offsets and strides of matrices count vec4u. silu.wgsl is put behind all. Preconditions: every subgroup has 32 invocations; K' a multiple of 32;
// SILU: even rows and row_start.

diagnostic(off, chromium.subgroup_matrix_uniformity); // offsets differ by subgroup, never within one

struct Params {
  K_pieces: u32, // K' / 32
  rows: u32,
  row_start: u32,
  N: u32,
}

struct Step {
  num_tokens: u32,
}

override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;
override SILU: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> q: array<vec4u>; // [T, K'/16]
@group(0) @binding(3) var<storage, read> qmeta: array<vec2u>; // [T]
@group(0) @binding(4) var<storage, read> weight: array<vec2u>; // [rows, K'/16]
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [N]
@group(0) @binding(6) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [T, N], or [T, N/2]

const lanes = 32u; // of a subgroup
const low = 0x0F0F0F0Fu;
const sums = 256u; // vec4u that 16 tokens x 64 rows of one subgroup take, after the last step
const sum_pitch = 16u; // vec4u of a token's sums

alias Left = subgroup_matrix_left<i8, 32, 16>;
alias Right = subgroup_matrix_right<i8, 16, 32>;
alias Sums = subgroup_matrix_result<i32, 16, 16>;

fn load_activations(t: u32, piece: u32) -> vec4u {
  let row_pieces = 2u * params.K_pieces;
  if (piece >= row_pieces) {
    return vec4u();
  }
  return q[min(t, step.num_tokens - 1u) * row_pieces + piece];
}

fn load_weights(row: u32, piece: u32) -> vec2u {
  let row_pieces = 2u * params.K_pieces;
  if (piece >= row_pieces) {
    return vec2u();
  }
  return weight[min(row, params.rows - 1u) * row_pieces + piece];
}

fn unpack(w: vec2u) -> vec4u {
  return vec4u(w.x & low, (w.x >> 4u) & low, w.y & low, (w.y >> 4u) & low);
}

/// The same expression in every int4 product, so that all of them give the same bits.
fn scaled(token: vec2u, n: u32, acc: i32) -> f32 {
  var value = f32(acc - 8 * bitcast<i32>(token.y)) * (scale[n] * bitcast<f32>(token.x));
  if (HAS_BIAS) {
    value += bias[n];
  }
  return value;
}

/// Sum of token i and row r of those that lie at `at`.
fn sum_of(at: u32, i: u32, r: u32) -> i32 {
  return bitcast<i32>(tiles[at + sum_pitch * i + r / 4u][r % 4u]);
}

/// Scales and writes the sums of 16 tokens from t and 64 rows from `row` that lie at `at`.
fn store_rows(at: u32, t: u32, row: u32, lane: u32) {
  for (var i = 0u; i < 32u; i++) {
    let token = t + i / 2u;
    let own = i % 2u * lanes + lane;
    if (token < step.num_tokens && row + own < params.rows) {
      let n = params.row_start + row + own;
      let to = token * params.N + n;
      var value = scaled(qmeta[token], n, sum_of(at, i / 2u, own));
      if (ACCUMULATE) {
        value += y[to];
      }
      y[to] = value;
    }
  }
}

/// The same with SILU: a lane takes a pair of rows.
fn store_gated(at: u32, t: u32, row: u32, lane: u32) {
  let n = params.row_start + row + 2u * lane;
  for (var i = 0u; i < 16u; i++) {
    let token = t + i;
    if (token < step.num_tokens && row + 2u * lane + 1u < params.rows) {
      let gate = scaled(qmeta[token], n, sum_of(at, i, 2u * lane));
      let up = scaled(qmeta[token], n + 1u, sum_of(at, i, 2u * lane + 1u));
      y[token * (params.N / 2u) + n / 2u] = silu_gate(gate, up);
    }
  }
}

fn store_sums(at: u32, t: u32, row: u32, lane: u32) {
  if (SILU) {
    store_gated(at, t, row, lane);
  } else {
    store_rows(at, t, row, lane);
  }
}
