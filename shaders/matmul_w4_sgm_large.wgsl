// Packed int4 matrix-matrix product on subgroup matrices (i8 x i8 -> i32, 16 x 16 x 32), tiles of 128 tokens x 128 rows; what it
// computes stands in matmul_w4_sgm_frame.wgsl, which is put in front of it.
//
// Each step takes 64 elements of K: 128 invocations stage 128 tokens and 128 rows in workgroup memory, a byte an element, from
// registers loaded while the step before was computed. Lines are 80 bytes apart, so that eight of them begin in different
// banks. Four subgroups of 32, 2 along the tokens by 2 along the rows, own 64 tokens x 64 rows each: 4 x 4 accumulator
// matrices. All is written out, without arrays or structures of what lives in registers: those end up in memory and halve
// the speed or worse. At the end a subgroup lays 16 tokens x 64 rows of sums at a time into workgroup memory, and its lanes
// scale and write them row by row.
// Twice the arithmetic of matmul_w4_sgm for each byte read of workgroup memory, but half as many workgroups: for long passes.

const tile_tokens = 128u;
const tile_rows = 128u;
const subgroups = 4u;
const invocations = subgroups * lanes;
const pieces = 4u; // of 16 elements of K, a step
const pitch = pieces + 1u; // vec4u between lines
const rows_at = tile_tokens * pitch; // where the weights begin
const lines = invocations / pieces; // between those that an invocation stages
const next_line = lines * pitch;

var<workgroup> tiles: array<vec4u, max((tile_tokens + tile_rows) * pitch, subgroups * sums)>; // tokens, then rows; after the last step, sums

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * tile_tokens;
  let first_row = group.x * tile_rows;
  if (first_token >= step.num_tokens || first_row >= params.rows) {
    return;
  }
  let token = first_token + local / pieces; // stages this one and others, `lines` apart
  let row = first_row + local / pieces; // likewise
  let piece = local % pieces;
  let slot = local / pieces * pitch + piece;
  let own_token = local / lanes / 2u * 64u;
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
  var acc20: Sums;
  var acc21: Sums;
  var acc22: Sums;
  var acc23: Sums;
  var acc30: Sums;
  var acc31: Sums;
  var acc32: Sums;
  var acc33: Sums;
  var next_q0 = load_activations(token, piece);
  var next_q1 = load_activations(token + lines, piece);
  var next_q2 = load_activations(token + 2u * lines, piece);
  var next_q3 = load_activations(token + 3u * lines, piece);
  var next_w0 = load_weights(row, piece);
  var next_w1 = load_weights(row + lines, piece);
  var next_w2 = load_weights(row + 2u * lines, piece);
  var next_w3 = load_weights(row + 3u * lines, piece);
  for (var done = 0u; done < 2u * params.K_pieces; done += pieces) {
    workgroupBarrier();
    tiles[slot] = next_q0;
    tiles[slot + next_line] = next_q1;
    tiles[slot + 2u * next_line] = next_q2;
    tiles[slot + 3u * next_line] = next_q3;
    tiles[slot + rows_at] = unpack(next_w0);
    tiles[slot + rows_at + next_line] = unpack(next_w1);
    tiles[slot + rows_at + 2u * next_line] = unpack(next_w2);
    tiles[slot + rows_at + 3u * next_line] = unpack(next_w3);
    workgroupBarrier();
    let next = done + pieces + piece;
    next_q0 = load_activations(token, next);
    next_q1 = load_activations(token + lines, next);
    next_q2 = load_activations(token + 2u * lines, next);
    next_q3 = load_activations(token + 3u * lines, next);
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
    let left20 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 32u * pitch, pitch);
    acc20 = subgroupMatrixMultiplyAccumulate(left20, right00, acc20);
    acc21 = subgroupMatrixMultiplyAccumulate(left20, right10, acc21);
    acc22 = subgroupMatrixMultiplyAccumulate(left20, right20, acc22);
    acc23 = subgroupMatrixMultiplyAccumulate(left20, right30, acc23);
    let left30 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 48u * pitch, pitch);
    acc30 = subgroupMatrixMultiplyAccumulate(left30, right00, acc30);
    acc31 = subgroupMatrixMultiplyAccumulate(left30, right10, acc31);
    acc32 = subgroupMatrixMultiplyAccumulate(left30, right20, acc32);
    acc33 = subgroupMatrixMultiplyAccumulate(left30, right30, acc33);
    // elements 32 .. 63 of the step
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
    let left21 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 32u * pitch + 2u, pitch);
    acc20 = subgroupMatrixMultiplyAccumulate(left21, right01, acc20);
    acc21 = subgroupMatrixMultiplyAccumulate(left21, right11, acc21);
    acc22 = subgroupMatrixMultiplyAccumulate(left21, right21, acc22);
    acc23 = subgroupMatrixMultiplyAccumulate(left21, right31, acc23);
    let left31 = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from + 48u * pitch + 2u, pitch);
    acc30 = subgroupMatrixMultiplyAccumulate(left31, right01, acc30);
    acc31 = subgroupMatrixMultiplyAccumulate(left31, right11, acc31);
    acc32 = subgroupMatrixMultiplyAccumulate(left31, right21, acc32);
    acc33 = subgroupMatrixMultiplyAccumulate(left31, right31, acc33);
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
  store_sums(at, t, r, lane);
  workgroupBarrier(); // what lies there has been read
  subgroupMatrixStore<row_major>(&tiles, at, acc10, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 4u, acc11, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 8u, acc12, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 12u, acc13, sum_pitch);
  workgroupBarrier();
  store_sums(at, t + 16u, r, lane);
  workgroupBarrier(); // what lies there has been read
  subgroupMatrixStore<row_major>(&tiles, at, acc20, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 4u, acc21, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 8u, acc22, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 12u, acc23, sum_pitch);
  workgroupBarrier();
  store_sums(at, t + 32u, r, lane);
  workgroupBarrier(); // what lies there has been read
  subgroupMatrixStore<row_major>(&tiles, at, acc30, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 4u, acc31, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 8u, acc32, sum_pitch);
  subgroupMatrixStore<row_major>(&tiles, at + 12u, acc33, sum_pitch);
  workgroupBarrier();
  store_sums(at, t + 48u, r, lane);
}
