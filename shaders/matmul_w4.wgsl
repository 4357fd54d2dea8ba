// Packed int4 matrix-matrix product over integer activations, tiles staged in workgroup memory:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
// or, with SILU, over pairs of rows (gate 2f, up 2f + 1):  y[t,f] = silu(value[t,2f]) * value[t,2f+1].
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows (SILU: y [T, N/2]).   i32 accumulators, exact.
//
// Weight word i of a row holds elements 8i .. 8i + 7: element 8i + j in byte j mod 4, low nibble for j < 4, so that
// w & 0x0F0F0F0F and (w >> 4) & 0x0F0F0F0F meet the activation words 2i and 2i + 1.
// A workgroup of 16 x 16 invocations owns a tile of TILE_T tokens (16, 32 or 64) by 64 rows; invocation (a, b) owns
// tokens b, b + 16, ... and rows 2a, 2a + 32, 2a + 1, 2a + 33 of it (even rows are staged before odd ones, so that it
// holds gate and up of a channel). Each step takes 64 elements of K: invocation i stages
// 16 elements of activations and of weights (nibbles unpacked once, here), having loaded the next step's into registers
// before it computes. Tiles lie as [piece of 16 elements][token or row], so neighbouring invocations read neighbouring
// vectors; a column is two vectors longer than its tile, which keeps the staging stores of one phase in different banks.
// What lies beyond T, rows or K' is staged as zero. Followed by silu.wgsl.
// Preconditions: K' is a multiple of 32; with SILU rows and row_start are even.

struct Params {
  K_pieces: u32, // K' / 32
  rows: u32,
  row_start: u32,
  N: u32,
}

struct Step {
  num_tokens: u32,
}

override TILE_T: u32 = 64;
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
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [T, N]

const tile_rows = 64u;
const half = tile_rows / 2u;
const pieces = 4u; // of 16 elements, staged per step
const column_w = tile_rows + 2u;
override column_q: u32 = TILE_T + 2u;
const low = 0x0F0F0F0Fu;

var<workgroup> tile_q: array<vec4u, pieces * column_q>;
var<workgroup> tile_w: array<vec4u, pieces * column_w>;

/// 16 products.
fn dot16(a: vec4u, b: vec4u) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

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

/// The same expression in every int4 product, so that all of them give the same bits.
fn scaled(token: vec2u, n: u32, acc: i32) -> f32 {
  var value = f32(acc - 8 * bitcast<i32>(token.y)) * (scale[n] * bitcast<f32>(token.x));
  if (HAS_BIAS) {
    value += bias[n];
  }
  return value;
}

fn store(t: u32, row: u32, acc: i32) {
  if (row >= params.rows) {
    return;
  }
  let n = params.row_start + row;
  let at = t * params.N + n;
  var value = scaled(qmeta[t], n, acc);
  if (ACCUMULATE) {
    value += y[at];
  }
  y[at] = value;
}

/// A pair of rows, gate and up.
fn store_gated(t: u32, row: u32, gate: i32, up: i32) {
  if (row + 1u >= params.rows) {
    return;
  }
  let n = params.row_start + row;
  let token = qmeta[t];
  y[t * (params.N / 2u) + n / 2u] = silu_gate(scaled(token, n, gate), scaled(token, n + 1u, up));
}

/// The four rows of one token that an invocation owns; `row` is the first.
fn store_token(t: u32, row: u32, acc: vec4i) {
  if (t >= step.num_tokens) {
    return;
  }
  if (SILU) {
    store_gated(t, row, acc.x, acc.z);
    store_gated(t, row + 32u, acc.y, acc.w);
  } else {
    store(t, row, acc.x);
    store(t, row + 32u, acc.y);
    store(t, row + 1u, acc.z);
    store(t, row + 33u, acc.w);
  }
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) id: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * TILE_T;
  let first_row = group.x * tile_rows;
  if (first_token >= step.num_tokens || first_row >= params.rows) {
    return;
  }
  let staged = local / pieces; // the token that this invocation stages, and the slot of a row
  let staged_row = first_row + staged % half * 2u + staged / half;
  let piece = local % pieces;
  let slot_q = piece * column_q + staged;
  let slot_w = piece * column_w + staged;
  let stages_token = staged < TILE_T;

  var acc0 = vec4i();
  var acc1 = vec4i();
  var acc2 = vec4i();
  var acc3 = vec4i();
  var next_q = vec4u();
  if (stages_token) {
    next_q = load_activations(first_token + staged, piece);
  }
  var next_w = load_weights(staged_row, piece);
  for (var done = 0u; done < 2u * params.K_pieces; done += pieces) {
    workgroupBarrier();
    if (stages_token) {
      tile_q[slot_q] = next_q;
    }
    tile_w[slot_w] = vec4u(next_w.x & low, (next_w.x >> 4u) & low, next_w.y & low, (next_w.y >> 4u) & low);
    workgroupBarrier();
    if (stages_token) {
      next_q = load_activations(first_token + staged, done + pieces + piece);
    }
    next_w = load_weights(staged_row, done + pieces + piece);

    for (var p = 0u; p < pieces; p++) {
      let w = p * column_w + id.x;
      let a = p * column_q + id.y;
      let w0 = tile_w[w];
      let w1 = tile_w[w + 16u];
      let w2 = tile_w[w + 32u];
      let w3 = tile_w[w + 48u];
      let q0 = tile_q[a];
      acc0 += vec4i(dot16(q0, w0), dot16(q0, w1), dot16(q0, w2), dot16(q0, w3));
      if (TILE_T > 16u) {
        let q1 = tile_q[a + 16u];
        acc1 += vec4i(dot16(q1, w0), dot16(q1, w1), dot16(q1, w2), dot16(q1, w3));
      }
      if (TILE_T > 32u) {
        let q2 = tile_q[a + 32u];
        acc2 += vec4i(dot16(q2, w0), dot16(q2, w1), dot16(q2, w2), dot16(q2, w3));
        let q3 = tile_q[a + 48u];
        acc3 += vec4i(dot16(q3, w0), dot16(q3, w1), dot16(q3, w2), dot16(q3, w3));
      }
    }
  }

  let t = first_token + id.y;
  let row = first_row + 2u * id.x;
  store_token(t, row, acc0);
  if (TILE_T > 16u) {
    store_token(t + 16u, row, acc1);
  }
  if (TILE_T > 32u) {
    store_token(t + 32u, row, acc2);
    store_token(t + 48u, row, acc3);
  }
}
