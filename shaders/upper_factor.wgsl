// The factor U of H = U * U^T from the reversed one: U[i, j] = L[n - 1 - i, n - 1 - j] for i <= j, 0 below.
//
//   l [n, n] f32 (lower triangle)  ->  u [n, n] f32
//
// One invocation per element: x and y count columns and rows.

struct Params {
  n: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> l: array<f32>; // [n, n]
@group(0) @binding(2) var<storage, read_write> u: array<f32>; // [n, n]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let n = params.n;
  let j = 64u * group.x + lane;
  let i = group.y;
  if (j < n) {
    u[i * n + j] = select(0.0, l[(n - 1u - i) * n + n - 1u - j], i <= j);
  }
}
