// Packed int4 matrix-matrix product over integer activations in tiles of 128 x 128, for long prompts:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
// or, with SILU, over pairs of rows (gate 2f, up 2f + 1):  y[t,f] = silu(value[t,2f]) * value[t,2f+1].
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows (SILU: y [T, N/2]).   i32 accumulators, exact.
//
// The layout of weights is that of `matmul_w4`, and so is the method: each step takes 64 elements of K, staged in
// workgroup memory (16 KiB in all) from registers that were loaded while the step before was computed. Invocation
// (a, b) of 16 x 16 owns tokens b, b + 16, ... and the row pairs a, a + 16, a + 32, a + 48 of the tile: 64 sums, so that
// 16 vector reads feed 256 dot products. Even rows are staged before odd ones, so a lane holds gate and up of the same
// channel and neighbours still read neighbouring vectors. Tiles lie as [piece of 16 elements][line ^ 2 piece]: the
// exclusive or keeps the staging stores of one phase in different banks without padding.
// What lies beyond T, rows or K' is staged as zero. silu.wgsl is put behind this file. Preconditions: K' a multiple of 32; SILU: even rows and row_start.

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

const tile = 128u; // tokens, and rows
const half = tile / 2u;
const pieces = 4u; // of 16 elements, staged per step
const low = 0x0F0F0F0Fu;

var<workgroup> tile_q: array<vec4u, pieces * tile>;
var<workgroup> tile_w: array<vec4u, pieces * tile>;

/// acc + 16 products.
fn dot16(acc: i32, a: vec4u, b: vec4u) -> i32 {
  return acc + dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

/// One token against four rows.
fn dot_rows(acc: vec4i, a: vec4u, w0: vec4u, w1: vec4u, w2: vec4u, w3: vec4u) -> vec4i {
  return vec4i(dot16(acc.x, a, w0), dot16(acc.y, a, w1), dot16(acc.z, a, w2), dot16(acc.w, a, w3));
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

fn store(t: u32, n: u32, value: f32) {
  let at = t * params.N + n;
  if (ACCUMULATE) {
    y[at] = value + y[at];
  } else {
    y[at] = value;
  }
}

/// The four pairs of rows of one token that an invocation owns; `row` is the first, even one.
fn store_token(t: u32, row: u32, even: vec4i, odd: vec4i) {
  if (t >= step.num_tokens) {
    return;
  }
  let token = qmeta[t];
  for (var j = 0u; j < 4u; j++) {
    let r = row + 32u * j;
    let n = params.row_start + r;
    if (SILU) {
      if (r + 1u < params.rows) {
        let gate = scaled(token, n, even[j]);
        let up = scaled(token, n + 1u, odd[j]);
        y[t * (params.N / 2u) + n / 2u] = silu_gate(gate, up);
      }
    } else {
      if (r < params.rows) {
        store(t, n, scaled(token, n, even[j]));
      }
      if (r + 1u < params.rows) {
        store(t, n + 1u, scaled(token, n + 1u, odd[j]));
      }
    }
  }
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) id: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * tile;
  let first_row = group.x * tile;
  if (first_token >= step.num_tokens || first_row >= params.rows) {
    return;
  }
  let line = local / pieces; // stages tokens `line` and `line + 64`, rows `2 line` and `2 line + 1`
  let piece = local % pieces;
  let slot = piece * tile + (line ^ (2u * piece));
  let token_a = first_token + line;
  let token_b = token_a + half;
  let row_a = first_row + 2u * line;

  var even0 = vec4i();
  var even1 = vec4i();
  var even2 = vec4i();
  var even3 = vec4i();
  var even4 = vec4i();
  var even5 = vec4i();
  var even6 = vec4i();
  var even7 = vec4i();
  var odd0 = vec4i();
  var odd1 = vec4i();
  var odd2 = vec4i();
  var odd3 = vec4i();
  var odd4 = vec4i();
  var odd5 = vec4i();
  var odd6 = vec4i();
  var odd7 = vec4i();
  var next_qa = load_activations(token_a, piece);
  var next_qb = load_activations(token_b, piece);
  var next_wa = load_weights(row_a, piece);
  var next_wb = load_weights(row_a + 1u, piece);
  for (var done = 0u; done < 2u * params.K_pieces; done += pieces) {
    workgroupBarrier();
    tile_q[slot] = next_qa;
    tile_q[slot + half] = next_qb;
    tile_w[slot] = unpack(next_wa);
    tile_w[slot + half] = unpack(next_wb);
    workgroupBarrier();
    let next = done + pieces + piece;
    next_qa = load_activations(token_a, next);
    next_qb = load_activations(token_b, next);
    next_wa = load_weights(row_a, next);
    next_wb = load_weights(row_a + 1u, next);

    for (var p = 0u; p < pieces; p++) {
      let w = p * tile + (id.x ^ (2u * p));
      let a = p * tile + (id.y ^ (2u * p));
      let w0 = tile_w[w];
      let w1 = tile_w[w + 16u];
      let w2 = tile_w[w + 32u];
      let w3 = tile_w[w + 48u];
      let w4 = tile_w[w + 64u];
      let w5 = tile_w[w + 80u];
      let w6 = tile_w[w + 96u];
      let w7 = tile_w[w + 112u];
      let q0 = tile_q[a];
      even0 = dot_rows(even0, q0, w0, w1, w2, w3);
      odd0 = dot_rows(odd0, q0, w4, w5, w6, w7);
      let q1 = tile_q[a + 16u];
      even1 = dot_rows(even1, q1, w0, w1, w2, w3);
      odd1 = dot_rows(odd1, q1, w4, w5, w6, w7);
      let q2 = tile_q[a + 32u];
      even2 = dot_rows(even2, q2, w0, w1, w2, w3);
      odd2 = dot_rows(odd2, q2, w4, w5, w6, w7);
      let q3 = tile_q[a + 48u];
      even3 = dot_rows(even3, q3, w0, w1, w2, w3);
      odd3 = dot_rows(odd3, q3, w4, w5, w6, w7);
      let q4 = tile_q[a + 64u];
      even4 = dot_rows(even4, q4, w0, w1, w2, w3);
      odd4 = dot_rows(odd4, q4, w4, w5, w6, w7);
      let q5 = tile_q[a + 80u];
      even5 = dot_rows(even5, q5, w0, w1, w2, w3);
      odd5 = dot_rows(odd5, q5, w4, w5, w6, w7);
      let q6 = tile_q[a + 96u];
      even6 = dot_rows(even6, q6, w0, w1, w2, w3);
      odd6 = dot_rows(odd6, q6, w4, w5, w6, w7);
      let q7 = tile_q[a + 112u];
      even7 = dot_rows(even7, q7, w0, w1, w2, w3);
      odd7 = dot_rows(odd7, q7, w4, w5, w6, w7);
    }
  }

  let t = first_token + id.y;
  let row = first_row + 2u * id.x;
  store_token(t, row, even0, odd0);
  store_token(t + 16u, row, even1, odd1);
  store_token(t + 32u, row, even2, odd2);
  store_token(t + 48u, row, even3, odd3);
  store_token(t + 64u, row, even4, odd4);
  store_token(t + 80u, row, even5, odd5);
  store_token(t + 96u, row, even6, odd6);
  store_token(t + 112u, row, even7, odd7);
}
