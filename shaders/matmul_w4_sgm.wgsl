// Packed int4 matrix-matrix product on subgroup matrices (i8 x i8 -> i32, 16 x 16 x 32), tiles of 64 x 128:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
// or, with SILU, over pairs of rows (gate 2f, up 2f + 1):  y[t,f] = silu(value[t,2f]) * value[t,2f+1].
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows (SILU: y [T, N/2]).   i32 accumulators, exact.
//
// The layout of weights is that of `matmul_w4`. Each step takes 64 elements of K: 128 invocations stage 64 tokens and
// 128 rows in workgroup memory, a byte an element, from registers loaded while the step before was computed. Lines are
// 80 bytes apart, so that eight of them begin in different banks. Four subgroups of 32, 2 along the tokens by 2 along the
// rows, own 32 tokens x 64 rows each: 2 x 4 accumulator matrices. All is written out, without arrays or structures of
// what lives in registers: those end up in memory and halve the speed or worse. At the end a subgroup lays 16 tokens x
// 64 rows of sums at a time into workgroup memory, and its lanes scale and write them row by row.
// What lies beyond T, rows or K' is staged as zero. Offsets and strides of matrices count vec4u.
// silu.wgsl is put behind this file. Preconditions: every subgroup has 32 invocations; K' a multiple of 32; SILU: even rows and row_start.

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

const tile_tokens = 64u;
const tile_rows = 128u;
const lanes = 32u; // of a subgroup
const invocations = 4u * lanes;
const low = 0x0F0F0F0Fu;
const pieces = 4u; // of 16 elements of K, a step
const pitch = pieces + 1u; // vec4u between lines
const rows_at = tile_tokens * pitch; // where the weights begin
const lines = invocations / pieces; // between those that an invocation stages
const next_line = lines * pitch;
const sums = 256u; // vec4u that 16 tokens x 64 rows of one subgroup take, after the last step
const sum_pitch = 16u; // vec4u of a token's sums

var<workgroup> tiles: array<vec4u, 4u * sums>; // tokens, then rows; after the last step, sums

alias Left = subgroup_matrix_left<i8, 32, 16>;
alias Right = subgroup_matrix_right<i8, 16, 32>;
alias Sums = subgroup_matrix_result<i32, 16, 16>;

fn load_activations(t: u32, piece: u32) -> vec4u {
  let row_pieces = 2u * params.K_pieces;
  if (t >= step.num_tokens || piece >= row_pieces) {
    return vec4u();
  }
  return q[t * row_pieces + piece];
}

fn load_weights(row: u32, piece: u32) -> vec2u {
  let row_pieces = 2u * params.K_pieces;
  if (row >= params.rows || piece >= row_pieces) {
    return vec2u();
  }
  return weight[row * row_pieces + piece];
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
fn store(at: u32, t: u32, row: u32, lane: u32) {
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

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * tile_tokens;
  let first_row = group.x * tile_rows;
  if (first_token >= step.num_tokens || first_row >= params.rows) {
    return;
  }
  let token = first_token + local / pieces; // stages this one and `lines` behind it
  let row = first_row + local / pieces; // stages this one and three more, `lines` apart
  let piece = local % pieces;
  let slot = local / pieces * pitch + piece;
  let own_token = local / lanes / 2u * 32u;
  let own_row = local / lanes % 2u * 64u;
  let tokens_from = own_token * pitch;
  let rows_from = rows_at + own_row * pitch;

  var acc00: Sums; // [tokens / 16][rows / 16]
  var acc01: Sums;
  var acc02: Sums;
  var acc03: Sums;
  var acc10: Sums;
  var acc11: Sums;
  var acc12: Sums;
  var acc13: Sums;
  var next_q0 = load_activations(token, piece);
  var next_q1 = load_activations(token + lines, piece);
  var next_w0 = load_weights(row, piece);
  var next_w1 = load_weights(row + lines, piece);
  var next_w2 = load_weights(row + 2u * lines, piece);
  var next_w3 = load_weights(row + 3u * lines, piece);
  for (var done = 0u; done < 2u * params.K_pieces; done += pieces) {
    workgroupBarrier();
    tiles[slot] = next_q0;
    tiles[slot + next_line] = next_q1;
    tiles[slot + rows_at] = unpack(next_w0);
    tiles[slot + rows_at + next_line] = unpack(next_w1);
    tiles[slot + rows_at + 2u * next_line] = unpack(next_w2);
    tiles[slot + rows_at + 3u * next_line] = unpack(next_w3);
    workgroupBarrier();
    let next = done + pieces + piece;
    next_q0 = load_activations(token, next);
    next_q1 = load_activations(token + lines, next);
    next_w0 = load_weights(row, next);
    next_w1 = load_weights(row + lines, next);
    next_w2 = load_weights(row + 2u * lines, next);
    next_w3 = load_weights(row + 3u * lines, next);
    // elements 0 .. 31 of the step
    let right00 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from, pitch);
    let right10 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from + 16u * pitch, pitch);
    let right20 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from + 32u * pitch, pitch);
    let right30 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from + 48u * pitch, pitch);
    let left00 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from, pitch);
    acc00 = subgroupMatrixMultiplyAccumulate(left00, right00, acc00);
    acc01 = subgroupMatrixMultiplyAccumulate(left00, right10, acc01);
    acc02 = subgroupMatrixMultiplyAccumulate(left00, right20, acc02);
    acc03 = subgroupMatrixMultiplyAccumulate(left00, right30, acc03);
    let left10 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 16u * pitch, pitch);
    acc10 = subgroupMatrixMultiplyAccumulate(left10, right00, acc10);
    acc11 = subgroupMatrixMultiplyAccumulate(left10, right10, acc11);
    acc12 = subgroupMatrixMultiplyAccumulate(left10, right20, acc12);
    acc13 = subgroupMatrixMultiplyAccumulate(left10, right30, acc13);
    // elements 32 .. 63
    let right01 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from + 2u, pitch);
    let right11 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from + 16u * pitch + 2u, pitch);
    let right21 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from + 32u * pitch + 2u, pitch);
    let right31 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from + 48u * pitch + 2u, pitch);
    let left01 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 2u, pitch);
    acc00 = subgroupMatrixMultiplyAccumulate(left01, right01, acc00);
    acc01 = subgroupMatrixMultiplyAccumulate(left01, right11, acc01);
    acc02 = subgroupMatrixMultiplyAccumulate(left01, right21, acc02);
    acc03 = subgroupMatrixMultiplyAccumulate(left01, right31, acc03);
    let left11 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 16u * pitch + 2u, pitch);
    acc10 = subgroupMatrixMultiplyAccumulate(left11, right01, acc10);
    acc11 = subgroupMatrixMultiplyAccumulate(left11, right11, acc11);
    acc12 = subgroupMatrixMultiplyAccumulate(left11, right21, acc12);
    acc13 = subgroupMatrixMultiplyAccumulate(left11, right31, acc13);
  }

  let at = local / lanes * sums;
  let lane = local % lanes;
  let t = first_token + own_token;
  let r = first_row + own_row;
  workgroupBarrier(); // what lies there has been read
  subgroupMatrixStore<row_major>(&tiles, at, acc00, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 4u, acc01, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 8u, acc02, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 12u, acc03, sum_pitch);
  workgroupBarrier();
  if (SILU) {
    store_gated(at, t, r, lane);
  } else {
    store(at, t, r, lane);
  }
  workgroupBarrier(); // what lies there has been read
  subgroupMatrixStore<row_major>(&tiles, at, acc10, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 4u, acc11, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 8u, acc12, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 12u, acc13, sum_pitch);
  workgroupBarrier();
  if (SILU) {
    store_gated(at, t + 16u, r, lane);
  } else {
    store(at, t + 16u, r, lane);
  }
}
