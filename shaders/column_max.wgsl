// Raises a column's largest magnitude: most[k] = max(most[k], max_t |x[t, k]|), as the bits of a float not below 0.
//
//   x [T, K] f32  ->  most [K] u32, bits of f32
//
// Workgroup (i, j): columns 64i .. 64i + 63, one an invocation, tokens ROWS * j .. of T. Bits of floats from 0 on are
// ordered as their values are, so atomicMax joins the slices.

struct Params {
  T: u32,
  K: u32,
}

override ROWS: u32 = 64;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [T, K]
@group(0) @binding(2) var<storage, read_write> most: array<atomic<u32>>; // [K]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let k = 64u * group.x + lane;
  if (k >= params.K) {
    return;
  }
  var largest = 0.0;
  let end = min((group.y + 1u) * ROWS, params.T);
  for (var t = group.y * ROWS; t < end; t++) {
    largest = max(largest, abs(x[t * params.K + k]));
  }
  atomicMax(&most[k], bitcast<u32>(largest));
}
