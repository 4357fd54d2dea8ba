// Dense product for many tokens: y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
//
// A workgroup of 128 owns a tile of 64 tokens x 64 rows and walks K in steps of 16 through workgroup memory, vec4 along
// K, zeros beyond every edge. Invocation (i, j), i < 16, j < 8, owns rows i + 16b (b < 4) and tokens j + 8a (a < 8): 32
// sums in registers, 128 multiply-adds for every 12 vec4 loads. Tile rows are 5 vec4 apart: eight lanes then read
// eight different groups of four banks.
// Grid: row tiles folded into x and y, token tiles in z. A token's sums run over k in order, whatever T is; the matvec
// kernels add in another order. Preceded by dense_frame.wgsl and dot4.wgsl.

const tile = 64u;
const invocations = 128u;
const fours = 4u; // vec4 along K per step
const pitch = 5u; // vec4 between rows of a tile
const tokens_per_lane = 8u;
const rows_per_lane = 4u;

@group(0) @binding(3) var<storage, read> weight: array<vec2u>; // [rows, 2 * quads]: four halves, two floats or eight bytes each

var<workgroup> x_tile: array<vec4f, tile * pitch>; // [64 tokens, 16 k]
var<workgroup> w_tile: array<vec4f, tile * pitch>; // [64 rows, 16 k]

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
  if (ELEMENT_BYTES == 2u) {
    let halves = weight[base + i];
    return vec4f(unpack2x16float(halves.x), unpack2x16float(halves.y));
  }
  if (ELEMENT_BYTES == 1u) {
    let bytes = weight[base + i / 2u];
    return bytes_of(select(bytes.x, bytes.y, i % 2u == 1u));
  }
  return vec4f(bitcast<vec2f>(weight[base + 2u * i]), bitcast<vec2f>(weight[base + 2u * i + 1u]));
}

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let first_row = (group.y * groups.x + group.x) * tile;
  let first_token = group.z * tile;
  if (first_row >= params.rows || first_token >= step.num_tokens) {
    return;
  }
  let row_lane = index % 16u;
  let token_lane = index / 16u;
  var acc: array<vec4f, tokens_per_lane>; // [token, row]
  for (var start = 0u; 4u * start < params.K; start += fours) {
    for (var i = index; i < tile * fours; i += invocations) {
      let line = i / fours;
      let four = i % fours;
      x_tile[line * pitch + four] = x_four(first_token + line, start + four);
      w_tile[line * pitch + four] = weight_four(first_row + line, start + four);
    }
    workgroupBarrier();
    for (var four = 0u; four < fours; four++) {
      let w0 = w_tile[row_lane * pitch + four];
      let w1 = w_tile[(row_lane + 16u) * pitch + four];
      let w2 = w_tile[(row_lane + 32u) * pitch + four];
      let w3 = w_tile[(row_lane + 48u) * pitch + four];
      for (var a = 0u; a < tokens_per_lane; a++) {
        let v = x_tile[(token_lane + 8u * a) * pitch + four];
        let sums = acc[a];
        acc[a] = vec4f(dot4(sums.x, v, w0), dot4(sums.y, v, w1), dot4(sums.z, v, w2), dot4(sums.w, v, w3));
      }
    }
    workgroupBarrier();
  }
  for (var a = 0u; a < tokens_per_lane; a++) {
    let token = first_token + token_lane + 8u * a;
    for (var b = 0u; b < rows_per_lane; b++) {
      let row = first_row + row_lane + 16u * b;
      if (token < step.num_tokens && row < params.rows) {
        store(token, row, acc[a][b]);
      }
    }
  }
}
