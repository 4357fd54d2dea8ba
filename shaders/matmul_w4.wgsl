// Packed int4 matrix-matrix product over integer activations, tiles staged in workgroup memory:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
// or, with SILU, over pairs of rows (gate 2f, up 2f + 1):  y[t,f] = silu(value[t,2f]) * value[t,2f+1].
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows (SILU: y [T, N/2]).   i32 accumulators, exact.
//
// Weight word i of a row holds elements 8i .. 8i + 7: element 8i + j in byte j mod 4, low nibble for j < 4, so that
// w & 0x0F0F0F0F and (w >> 4) & 0x0F0F0F0F meet the activation words 2i and 2i + 1.
// A workgroup of 16 x 8 invocations owns a tile of TILE_T tokens (16, 32 or 64) by 64 rows; invocation (a, b) owns
// tokens b, b + 8, ... and rows 2a, 2a + 32, 2a + 1, 2a + 33 of it (even rows are staged before odd ones, so that it
// holds gate and up of a channel). Each step takes 64 elements of K: invocation i stages pieces of 16 elements of
// activations and of weights, having loaded the next step's into registers before it computes. Weights stay packed in
// workgroup memory: unpacking them for every 8 tokens costs less than reading twice the bytes. Products go into their sum
// one after the other, because the hardware's packed dot product adds for nothing, and sums of its results do not.
// Tiles lie as [piece][token or row], so neighbouring invocations read neighbouring vectors; a column is two vectors
// longer than its tile, which keeps the staging stores of one phase in different banks.
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
// 2 KiB that nothing uses: with as much more workgroup memory, in an array of its own, an H200 ran the kernel 10 % faster (docs/LOG.md).
const spare = 256u;
const low = 0x0F0F0F0Fu;
const lines = 32u; // tokens or rows that the workgroup stages at a time
const token_lanes = 8u;
const most_tokens = 8u; // of an invocation
override tokens = TILE_T / token_lanes;

var<workgroup> tile_q: array<vec4u, pieces * column_q>;
var<workgroup> tile_w: array<vec2u, pieces * column_w + spare>;

/// acc + 16 products.
fn add_dot16(acc: i32, a: vec4u, b: vec4u) -> i32 {
  let half_sum = dot4I8Packed(a.y, b.y) + (dot4I8Packed(a.x, b.x) + acc);
  return dot4I8Packed(a.w, b.w) + (dot4I8Packed(a.z, b.z) + half_sum);
}

/// Four bytes a word from the nibbles of 16 elements.
fn unpacked(w: vec2u) -> vec4u {
  return vec4u(w.x & low, (w.x >> 4u) & low, w.y & low, (w.y >> 4u) & low);
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

@compute @workgroup_size(16, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) id: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * TILE_T;
  let first_row = group.x * tile_rows;
  if (first_token >= step.num_tokens || first_row >= params.rows) {
    return;
  }
  let line = local / pieces; // the token that this invocation stages, and one `lines` behind it; the slot of a row, likewise
  let piece = local % pieces;
  let token = first_token + line;
  let row = first_row + 2u * line; // in slot `line`; the next row `half` slots behind it
  let slot_q = piece * column_q + line;
  let slot_w = piece * column_w + line;
  let stages_token = line < TILE_T;
  let stages_second = TILE_T > lines;

  var acc: array<vec4i, most_tokens>; // of rows 2a, 2a + 32, 2a + 1, 2a + 33
  var next_q = vec4u();
  var next_q_second = vec4u();
  if (stages_token) {
    next_q = load_activations(token, piece);
  }
  if (stages_second) {
    next_q_second = load_activations(token + lines, piece);
  }
  var next_w = load_weights(row, piece);
  var next_w_second = load_weights(row + 1u, piece);
  for (var done = 0u; done < 2u * params.K_pieces; done += pieces) {
    workgroupBarrier();
    if (stages_token) {
      tile_q[slot_q] = next_q;
    }
    if (stages_second) {
      tile_q[slot_q + lines] = next_q_second;
    }
    tile_w[slot_w] = next_w;
    tile_w[slot_w + half] = next_w_second;
    workgroupBarrier();
    let next = done + pieces + piece;
    if (stages_token) {
      next_q = load_activations(token, next);
    }
    if (stages_second) {
      next_q_second = load_activations(token + lines, next);
    }
    next_w = load_weights(row, next);
    next_w_second = load_weights(row + 1u, next);

    for (var p = 0u; p < pieces; p++) {
      let w = p * column_w + id.x;
      let w0 = unpacked(tile_w[w]);
      let w1 = unpacked(tile_w[w + 16u]);
      let w2 = unpacked(tile_w[w + 32u]);
      let w3 = unpacked(tile_w[w + 48u]);
      for (var i = 0u; i < tokens; i++) {
        let a = tile_q[p * column_q + id.y + token_lanes * i];
        let sums = acc[i];
        acc[i] = vec4i(add_dot16(sums.x, a, w0), add_dot16(sums.y, a, w1), add_dot16(sums.z, a, w2),
                       add_dot16(sums.w, a, w3));
      }
    }
  }

  for (var i = 0u; i < tokens; i++) {
    store_token(first_token + id.y + token_lanes * i, first_row + 2u * id.x, acc[i]);
  }
}
