// What GPTQ factors: the Gram matrix in rounding order, reversed, with damping on the diagonal (lower triangle).
//   h[i, j] = G[order[n - 1 - i], order[n - 1 - j]] + (i == j ? damping : 0), j <= i
// G holds its lower triangle only. Diagonal alone with DIAGONAL: h[i] = G[i, i].
//
//   gram [n, n] f32, order [n] u32  ->  h [n, n] f32
//
// One invocation per element: x and y count columns and rows.

struct Params {
  n: u32,
  damping: f32,
}

override DIAGONAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gram: array<f32>; // [n, n]
@group(0) @binding(2) var<storage, read> order: array<u32>; // [n]
@group(0) @binding(3) var<storage, read_write> h: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let n = params.n;
  let j = 64u * group.x + lane;
  let i = group.y;
  if (j >= n) {
    return;
  }
  if (DIAGONAL) {
    h[j] = gram[j * n + j];
    return;
  }
  if (j > i) {
    h[i * n + j] = 0.0;
    return;
  }
  let row = order[n - 1u - i];
  let column = order[n - 1u - j];
  var value = gram[max(row, column) * n + min(row, column)];
  if (i == j) {
    value += params.damping;
  }
  h[i * n + j] = value;
}
