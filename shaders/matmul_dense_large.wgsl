// Dense product in tiles of 128 x 128, for long prompts:
//   y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
//
//   x [T, K] f32, weight [rows, stride] f16 or f32  ->  y [T, N] f32, columns row_start .. row_start + rows
//
// Each step takes 16 elements of K, staged in workgroup memory as floats (16 KiB in all) from registers that were loaded
// while the step before was computed. Invocation (a, b) of 16 x 16 owns rows a, a + 16, ... and tokens b, b + 16, ... of
// the tile: 64 sums, so that 16 vector reads feed 256 multiply-adds. Tiles lie as [four of K][line]; neighbouring
// invocations stage neighbouring lines, so that stores and reads alike meet different banks without padding.
// Grid: row tiles folded into x and y, token tiles in z. A token's sums run over k in order, as in `matmul_dense`.

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

override F16: bool = true; // weights are halves, low half first; else floats
override K_ALIGN: u32 = 8; // 8, 4 or 1: the largest of these that divides K
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4f>; // [T, K] floats, seen in fours
@group(0) @binding(3) var<storage, read> weight: array<vec2u>; // [rows, 2 * quads]: four halves or two floats each
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, N]

const tile = 128u; // tokens, and rows
const invocations = 256u;
const fours = 4u; // vec4 along K per step

var<workgroup> x_tile: array<vec4f, fours * tile>;
var<workgroup> w_tile: array<vec4f, fours * tile>;

fn x_element(token: u32, k: u32) -> f32 {
  if (k >= params.K) {
    return 0.0;
  }
  let i = token * params.K + k;
  return x[i / 4u][i % 4u];
}

// Elements 4i .. 4i + 3 of a token, 0 beyond K and T.
fn x_four(token: u32, i: u32) -> vec4f {
  let k = 4u * i;
  if (token >= step.num_tokens || k >= params.K) {
    return vec4f();
  }
  if (K_ALIGN == 1u) {
    return vec4f(x_element(token, k), x_element(token, k + 1u), x_element(token, k + 2u), x_element(token, k + 3u));
  }
  return x[token * (params.K / 4u) + i];
}

// Elements 4i .. 4i + 3 of a weight row, 0 beyond K and the block's rows.
fn weight_four(row: u32, i: u32) -> vec4f {
  if (row >= params.rows || 4u * i >= params.K) {
    return vec4f();
  }
  let base = 2u * row * params.quads;
  if (F16) {
    let halves = weight[base + i];
    return vec4f(unpack2x16float(halves.x), unpack2x16float(halves.y));
  }
  return vec4f(bitcast<vec2f>(weight[base + 2u * i]), bitcast<vec2f>(weight[base + 2u * i + 1u]));
}

/// acc + 4 products, in order.
fn dot4(acc: f32, a: vec4f, b: vec4f) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}

/// One token against four rows.
fn dot_rows(acc: vec4f, v: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
  return vec4f(dot4(acc.x, v, w0), dot4(acc.y, v, w1), dot4(acc.z, v, w2), dot4(acc.w, v, w3));
}

/// Four of the rows of one token that an invocation owns.
fn store_token(t: u32, row: u32, sums: vec4f) {
  for (var j = 0u; j < 4u; j++) {
    let r = row + 16u * j;
    if (t < step.num_tokens && r < params.rows) {
      let n = params.row_start + r;
      var sum = sums[j];
      if (HAS_BIAS) {
        sum += bias[n];
      }
      if (ACCUMULATE) {
        sum += y[t * params.N + n];
      }
      y[t * params.N + n] = sum;
    }
  }
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_id) id: vec3u, @builtin(local_invocation_index) local: u32) {
  let first_row = (group.y * groups.x + group.x) * tile;
  let first_token = group.z * tile;
  if (first_row >= params.rows || first_token >= step.num_tokens) {
    return;
  }
  let four = local / tile; // stages this one and the next but one
  let token = first_token + local % tile;
  let row = first_row + local % tile;

  var low0 = vec4f();
  var low1 = vec4f();
  var low2 = vec4f();
  var low3 = vec4f();
  var low4 = vec4f();
  var low5 = vec4f();
  var low6 = vec4f();
  var low7 = vec4f();
  var high0 = vec4f();
  var high1 = vec4f();
  var high2 = vec4f();
  var high3 = vec4f();
  var high4 = vec4f();
  var high5 = vec4f();
  var high6 = vec4f();
  var high7 = vec4f();
  var next_xa = x_four(token, four);
  var next_xb = x_four(token, four + 2u);
  var next_wa = weight_four(row, four);
  var next_wb = weight_four(row, four + 2u);
  for (var start = 0u; 4u * start < params.K; start += fours) {
    workgroupBarrier();
    x_tile[local] = next_xa;
    x_tile[local + invocations] = next_xb;
    w_tile[local] = next_wa;
    w_tile[local + invocations] = next_wb;
    workgroupBarrier();
    let next = start + fours + four;
    next_xa = x_four(token, next);
    next_xb = x_four(token, next + 2u);
    next_wa = weight_four(row, next);
    next_wb = weight_four(row, next + 2u);

    for (var p = 0u; p < fours; p++) {
      let w = p * tile + id.x;
      let a = p * tile + id.y;
      let w0 = w_tile[w];
      let w1 = w_tile[w + 16u];
      let w2 = w_tile[w + 32u];
      let w3 = w_tile[w + 48u];
      let w4 = w_tile[w + 64u];
      let w5 = w_tile[w + 80u];
      let w6 = w_tile[w + 96u];
      let w7 = w_tile[w + 112u];
      let x0 = x_tile[a];
      low0 = dot_rows(low0, x0, w0, w1, w2, w3);
      high0 = dot_rows(high0, x0, w4, w5, w6, w7);
      let x1 = x_tile[a + 16u];
      low1 = dot_rows(low1, x1, w0, w1, w2, w3);
      high1 = dot_rows(high1, x1, w4, w5, w6, w7);
      let x2 = x_tile[a + 32u];
      low2 = dot_rows(low2, x2, w0, w1, w2, w3);
      high2 = dot_rows(high2, x2, w4, w5, w6, w7);
      let x3 = x_tile[a + 48u];
      low3 = dot_rows(low3, x3, w0, w1, w2, w3);
      high3 = dot_rows(high3, x3, w4, w5, w6, w7);
      let x4 = x_tile[a + 64u];
      low4 = dot_rows(low4, x4, w0, w1, w2, w3);
      high4 = dot_rows(high4, x4, w4, w5, w6, w7);
      let x5 = x_tile[a + 80u];
      low5 = dot_rows(low5, x5, w0, w1, w2, w3);
      high5 = dot_rows(high5, x5, w4, w5, w6, w7);
      let x6 = x_tile[a + 96u];
      low6 = dot_rows(low6, x6, w0, w1, w2, w3);
      high6 = dot_rows(high6, x6, w4, w5, w6, w7);
      let x7 = x_tile[a + 112u];
      low7 = dot_rows(low7, x7, w0, w1, w2, w3);
      high7 = dot_rows(high7, x7, w4, w5, w6, w7);
    }
  }

  let t = first_token + id.y;
  let r = first_row + id.x;
  store_token(t, r, low0);
  store_token(t, r + 64u, high0);
  store_token(t + 16u, r, low1);
  store_token(t + 16u, r + 64u, high1);
  store_token(t + 32u, r, low2);
  store_token(t + 32u, r + 64u, high2);
  store_token(t + 48u, r, low3);
  store_token(t + 48u, r + 64u, high3);
  store_token(t + 64u, r, low4);
  store_token(t + 64u, r + 64u, high4);
  store_token(t + 80u, r, low5);
  store_token(t + 80u, r + 64u, high5);
  store_token(t + 96u, r, low6);
  store_token(t + 96u, r + 64u, high6);
  store_token(t + 112u, r, low7);
  store_token(t + 112u, r + 64u, high7);
}
