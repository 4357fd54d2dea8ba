// Packed int4 matrix-matrix product on subgroup matrices (i8 x i8 -> i32, 16 x 16 x 32), tiles of 128 x 64:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
// or, with SILU, over pairs of rows (gate 2f, up 2f + 1):  y[t,f] = silu(value[t,2f]) * value[t,2f+1].
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows (SILU: y [T, N/2]).   i32 accumulators, exact.
//
// The layout of weights is that of `matmul_w4`. Each step takes 64 elements of K: 128 invocations stage 128 tokens and
// 64 rows in workgroup memory (15 KiB), a byte an element, from registers loaded while the step before was computed.
// Lines are 80 bytes apart, so that eight of them begin in different banks. Four subgroups of 32, 2 along the tokens by 2
// along the rows, own 64 tokens x 32 rows each: 4 x 2 accumulator matrices (named, not an array: an indexed array of
// matrices lives in memory and is four times slower). At the end a subgroup lays 16 tokens x 32 rows of sums at a time
// into workgroup memory, and its lanes scale and write them row by row.
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

const tile_tokens = 128u;
const tile_rows = 64u;
const lanes = 32u; // of a subgroup
const invocations = 4u * lanes;
const low = 0x0F0F0F0Fu;
const pieces = 4u; // of 16 elements of K, a step
const pitch = pieces + 1u; // vec4u between lines
const rows_at = tile_tokens * pitch; // where the weights begin
const lines = invocations / pieces; // between those that an invocation stages
const sums = 128u; // vec4u that 16 tokens x 32 rows of one subgroup take, after the last step

var<workgroup> tiles: array<vec4u, (tile_tokens + tile_rows) * pitch>; // tokens, then rows; after the last step, sums

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
  return bitcast<i32>(tiles[at + 8u * i + r / 4u][r % 4u]);
}

/// Scales and writes the sums of 16 tokens from t and 32 rows from `row` that lie at `at`.
fn store(at: u32, t: u32, row: u32, lane: u32) {
  for (var i = 0u; i < 16u; i++) {
    let token = t + i;
    let r = row + lane;
    if (token < step.num_tokens && r < params.rows) {
      let n = params.row_start + r;
      let to = token * params.N + n;
      let value = scaled(qmeta[token], n, sum_of(at, i, lane));
      if (ACCUMULATE) {
        y[to] = value + y[to];
      } else {
        y[to] = value;
      }
    }
  }
}

/// The same with SILU: a lane takes a pair of rows of every second token.
fn store_gated(at: u32, t: u32, row: u32, lane: u32) {
  let r = row + 2u * (lane % 16u);
  let n = params.row_start + r;
  for (var i = lane / 16u; i < 16u; i += 2u) {
    let token = t + i;
    if (token < step.num_tokens && r + 1u < params.rows) {
      let gate = scaled(qmeta[token], n, sum_of(at, i, 2u * (lane % 16u)));
      let up = scaled(qmeta[token], n + 1u, sum_of(at, i, 2u * (lane % 16u) + 1u));
      y[token * (params.N / 2u) + n / 2u] = silu_gate(gate, up);
    }
  }
}

struct Piece {
  q: array<vec4u, 4>, // of four tokens
  w: array<vec2u, 2>, // of two rows
}

fn load(token: u32, row: u32, piece: u32) -> Piece {
  return Piece(
    array(load_activations(token, piece), load_activations(token + lines, piece),
          load_activations(token + 2u * lines, piece), load_activations(token + 3u * lines, piece)),
    array(load_weights(row, piece), load_weights(row + lines, piece)),
  );
}

fn stage(slot: u32, piece: Piece) {
  tiles[slot] = piece.q[0];
  tiles[slot + lines * pitch] = piece.q[1];
  tiles[slot + 2u * lines * pitch] = piece.q[2];
  tiles[slot + 3u * lines * pitch] = piece.q[3];
  tiles[slot + rows_at] = unpack(piece.w[0]);
  tiles[slot + rows_at + lines * pitch] = unpack(piece.w[1]);
}

/// Writes 16 tokens from t and 32 rows from `row`: two matrices of sums, side by side.
fn finish(left: Sums, right: Sums, t: u32, row: u32, local: u32) {
  let at = local / lanes * sums;
  workgroupBarrier(); // what lies there has been read
  subgroupMatrixStore<row_major>(&tiles, at, left, 8u);
  subgroupMatrixStore<row_major>(&tiles, at + 4u, right, 8u);
  workgroupBarrier();
  if (SILU) {
    store_gated(at, t, row, local % lanes);
  } else {
    store(at, t, row, local % lanes);
  }
}

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * tile_tokens;
  let first_row = group.x * tile_rows;
  if (first_token >= step.num_tokens || first_row >= params.rows) {
    return;
  }
  let token = first_token + local / pieces; // stages this and every `lines`th
  let row = first_row + local / pieces;
  let piece = local % pieces;
  let slot = local / pieces * pitch + piece;
  let own_token = local / lanes / 2u * 64u;
  let own_row = local / lanes % 2u * 32u;

  var acc00: Sums; // [tokens / 16][rows / 16]
  var acc01: Sums;
  var acc10: Sums;
  var acc11: Sums;
  var acc20: Sums;
  var acc21: Sums;
  var acc30: Sums;
  var acc31: Sums;
  var next = load(token, row, piece);
  for (var done = 0u; done < 2u * params.K_pieces; done += pieces) {
    workgroupBarrier();
    stage(slot, next);
    workgroupBarrier();
    next = load(token, row, done + pieces + piece);
    for (var k = 0u; k < pieces; k += 2u) {
      let rows_from = rows_at + own_row * pitch + k;
      let tokens_from = own_token * pitch + k;
      let right0 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from, pitch);
      let right1 = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from + 16u * pitch, pitch);
      let left0 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from, pitch);
      acc00 = subgroupMatrixMultiplyAccumulate(left0, right0, acc00);
      acc01 = subgroupMatrixMultiplyAccumulate(left0, right1, acc01);
      let left1 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 16u * pitch, pitch);
      acc10 = subgroupMatrixMultiplyAccumulate(left1, right0, acc10);
      acc11 = subgroupMatrixMultiplyAccumulate(left1, right1, acc11);
      let left2 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 32u * pitch, pitch);
      acc20 = subgroupMatrixMultiplyAccumulate(left2, right0, acc20);
      acc21 = subgroupMatrixMultiplyAccumulate(left2, right1, acc21);
      let left3 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 48u * pitch, pitch);
      acc30 = subgroupMatrixMultiplyAccumulate(left3, right0, acc30);
      acc31 = subgroupMatrixMultiplyAccumulate(left3, right1, acc31);
    }
  }

  let t = first_token + own_token;
  let r = first_row + own_row;
  finish(acc00, acc01, t, r, local);
  finish(acc10, acc11, t + 16u, r, local);
  finish(acc20, acc21, t + 32u, r, local);
  finish(acc30, acc31, t + 48u, r, local);
}
