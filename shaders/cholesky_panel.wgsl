// Rows below a factored diagonal block L: X * L^T = A, in place and copied to `panel`.
//
//   a [n, n] f32: rows at + size .. n, columns at .. at + size  ->  the same, and panel [n - at - size, 64] (0 beyond size)
//
// One invocation per row; L lies in workgroup memory (16 KiB). x_j = (a_j - sum_{k<j} x_k L_jk) / L_jj.

struct Params {
  n: u32,
  at: u32,
  size: u32,
}

const block = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> a: array<f32>; // [n, n]
@group(0) @binding(2) var<storage, read_write> panel: array<f32>; // [rows, 64]

var<workgroup> tile: array<f32, block * block>;

@compute @workgroup_size(block)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let size = params.size;
  for (var i = 0u; i < size; i++) {
    tile[i * block + lane] = a[(params.at + i) * params.n + params.at + min(lane, size - 1u)];
  }
  workgroupBarrier();
  let own = group.x * block + lane;
  let row = params.at + size + own;
  if (row >= params.n) {
    return;
  }
  let start = row * params.n + params.at;
  var x: array<f32, block>;
  for (var j = 0u; j < size; j++) {
    var sum = a[start + j];
    for (var k = 0u; k < j; k++) {
      sum = fma(-x[k], tile[j * block + k], sum);
    }
    x[j] = sum / tile[j * block + j];
    a[start + j] = x[j];
  }
  for (var j = 0u; j < block; j++) {
    panel[own * block + j] = select(0.0, x[j], j < size);
  }
}
