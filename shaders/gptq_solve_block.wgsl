// One block of t * U^T = r, from the last column on: what the later columns contribute is subtracted already.
//   t_j = y_j / U_jj, then y_i -= t_j * U_ij for i < j, within columns at .. at + size
//
//   u [K, K] f32 (upper triangle), y [rows, K] f32  ->  t [rows, K] f32, those columns
//
// One invocation per row; the block of U lies in workgroup memory (16 KiB).

struct Params {
  rows: u32,
  K: u32,
  at: u32,
  size: u32,
}

const block = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> u: array<f32>; // [K, K]
@group(0) @binding(2) var<storage, read> y: array<f32>; // [rows, K]
@group(0) @binding(3) var<storage, read_write> t: array<f32>; // [rows, K]

var<workgroup> tile: array<f32, block * block>;

@compute @workgroup_size(block)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let size = params.size;
  for (var i = 0u; i < size; i++) {
    tile[i * block + lane] = u[(params.at + i) * params.K + params.at + min(lane, size - 1u)];
  }
  workgroupBarrier();
  let row = group.x * block + lane;
  if (row >= params.rows) {
    return;
  }
  let start = row * params.K + params.at;
  var rest: array<f32, block>;
  for (var j = 0u; j < size; j++) {
    rest[j] = y[start + j];
  }
  for (var back = 0u; back < size; back++) {
    let j = size - 1u - back;
    let value = rest[j] / tile[j * block + j];
    t[start + j] = value;
    for (var i = 0u; i < j; i++) {
      rest[i] = fma(-value, tile[i * block + j], rest[i]);
    }
  }
}
