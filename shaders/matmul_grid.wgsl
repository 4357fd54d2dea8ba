// Matrix-matrix product over integer activations and weights on a grid, tiles staged in workgroup memory:
//   y[t,n] (+)= s_t * sum_g step[n,g] * sum_k q[t,k] * (distance * u[n,k] - zero[n,g]) (+ bias_n),  k in group g
//
// i32 within a group, exact; f32 over groups, in their order: the same bits as matvec_grid gives.
//
// A workgroup of 16 x 16 invocations owns a tile of 64 tokens by 64 rows; invocation (a, b) owns tokens b, b + 16, ... and
// rows a, a + 16, ... of it. Each step takes 64 elements of K, two pieces of 32: an invocation stages 16 elements of
// activations, and half of the invocations a piece of weights each, as signed bytes distance * u - zero. Tiles lie as
// [16 elements][token or row], so neighbouring invocations read neighbouring vectors; a column is two vectors longer than
// its tile, which keeps the staging stores of one phase in different banks. What lies beyond T, rows or K' is staged as zero.
// Preceded by grid_frame.wgsl and grid3_decode.wgsl or grid4_decode.wgsl. Preconditions: K' and the group size are multiples of 32.

const tile = 64u;
const column = tile + 2u;

var<workgroup> tile_q: array<vec4u, 4u * column>;
var<workgroup> tile_w: array<vec4u, 4u * column>;

/// `part`: which 16 elements of the row.
fn load_activations(t: u32, part: u32) -> vec4u {
  let row_parts = 2u * params.K_pieces;
  if (t >= step.num_tokens || part >= row_parts) {
    return vec4u();
  }
  return q[t * row_parts + part];
}

/// Bytes of at most 127, less `zero` each: no borrow leaves a byte whose high bit is set.
fn less_zero(levels: vec4u, zero: u32) -> vec4u {
  return ((levels | vec4u(0x80808080u)) - vec4u(zero * 0x01010101u)) ^ vec4u(0x80808080u);
}

struct Codes {
  first: vec4u,
  second: vec4u,
}

/// The 32 signed bytes of a piece.
fn load_codes(row: u32, piece: u32) -> Codes {
  if (row >= params.rows || piece >= params.K_pieces) {
    return Codes();
  }
  let word = grid[(params.row_start + row) * params.groups + piece / params.group_pieces];
  let zero = zero_of(word);
  let levels = load_piece((row * params.K_pieces + piece) * piece_words);
  return Codes(less_zero(first_half(levels), zero), less_zero(second_half(levels), zero));
}

fn store_inside(t: u32, row: u32, total: f32) {
  if (t < step.num_tokens && row < params.rows) {
    store(t, params.row_start + row, total);
  }
}

/// The four rows of one token that an invocation owns; `row` is the first.
fn store_token(t: u32, row: u32, total: vec4f) {
  store_inside(t, row, total.x);
  store_inside(t, row + 16u, total.y);
  store_inside(t, row + 32u, total.z);
  store_inside(t, row + 48u, total.w);
}

fn group_step(row: u32, group: u32) -> f32 {
  if (row >= params.rows) {
    return 0.0;
  }
  return step_of(grid[(params.row_start + row) * params.groups + group]);
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) id: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * tile;
  let first_row = group.x * tile;
  if (first_token >= step.num_tokens || first_row >= params.rows) {
    return;
  }
  let token = first_token + id.y;
  let row = first_row + id.x;
  let staged_token = local / 4u;
  let part = local % 4u;
  let slot_q = part * column + staged_token;
  let staged_row = local / 2u; // of the invocations below 128
  let piece = local % 2u;
  let slot_w = 2u * piece * column + staged_row;
  let stages_row = staged_row < tile;

  var acc0 = vec4i();
  var acc1 = vec4i();
  var acc2 = vec4i();
  var acc3 = vec4i();
  var total0 = vec4f();
  var total1 = vec4f();
  var total2 = vec4f();
  var total3 = vec4f();
  var next_q = load_activations(first_token + staged_token, part);
  var next_w = Codes();
  if (stages_row) {
    next_w = load_codes(first_row + staged_row, piece);
  }
  for (var done = 0u; done < params.K_pieces; done += 2u) {
    workgroupBarrier();
    tile_q[slot_q] = next_q;
    if (stages_row) {
      tile_w[slot_w] = next_w.first;
      tile_w[slot_w + column] = next_w.second;
    }
    workgroupBarrier();
    next_q = load_activations(first_token + staged_token, 2u * (done + 2u) + part);
    if (stages_row) {
      next_w = load_codes(first_row + staged_row, done + 2u + piece);
    }

    for (var own = 0u; own < min(2u, params.K_pieces - done); own++) {
      for (var half = 0u; half < 2u; half++) {
        let w = (2u * own + half) * column + id.x;
        let a = (2u * own + half) * column + id.y;
        let w0 = tile_w[w];
        let w1 = tile_w[w + 16u];
        let w2 = tile_w[w + 32u];
        let w3 = tile_w[w + 48u];
        let q0 = tile_q[a];
        acc0 += vec4i(dot16(q0, w0), dot16(q0, w1), dot16(q0, w2), dot16(q0, w3));
        let q1 = tile_q[a + 16u];
        acc1 += vec4i(dot16(q1, w0), dot16(q1, w1), dot16(q1, w2), dot16(q1, w3));
        let q2 = tile_q[a + 32u];
        acc2 += vec4i(dot16(q2, w0), dot16(q2, w1), dot16(q2, w2), dot16(q2, w3));
        let q3 = tile_q[a + 48u];
        acc3 += vec4i(dot16(q3, w0), dot16(q3, w1), dot16(q3, w2), dot16(q3, w3));
      }
      let ended = done + own + 1u;
      if (ended % params.group_pieces == 0u || ended == params.K_pieces) {
        let g = (ended - 1u) / params.group_pieces;
        let steps = vec4f(group_step(row, g), group_step(row + 16u, g), group_step(row + 32u, g), group_step(row + 48u, g));
        total0 = fma(vec4f(acc0), steps, total0);
        total1 = fma(vec4f(acc1), steps, total1);
        total2 = fma(vec4f(acc2), steps, total2);
        total3 = fma(vec4f(acc3), steps, total3);
        acc0 = vec4i();
        acc1 = vec4i();
        acc2 = vec4i();
        acc3 = vec4i();
      }
    }
  }

  store_token(token, row, total0);
  store_token(token + 16u, row, total1);
  store_token(token + 32u, row, total2);
  store_token(token + 48u, row, total3);
}
