// GPTQ's rounding of one block of columns, every row at three scales (arXiv 2210.17323 in triangular form: with
// H = U * U^T, codes q and a scale s that minimize |t - s * q * U|^2, component j of q * U reading q_0 .. q_j only):
//   q_j = clamp(round((t_j / s - z_j) / U_jj), low, high),  z_i += q_j * U_ji for the block's later columns
// where z begins with what the columns before the block contribute. Codes of columns that no input uses are 0.
// Adds up, for the best scale: loss at s, R = sum (t - s c) c and S = sum c^2 with c_j = z_j + q_j * U_jj.
//
//   u [K, K], t [rows, K], scale [rows], before [3 rows, 64], diagonal [K], all f32
//   ->  q [3 rows, K] f32, those columns; sums [3 rows] of vec4f (loss, R, S, -), accumulated
//
// Virtual row v = trial * rows + row, one invocation each; the block of U lies in workgroup memory (16 KiB).

struct Params {
  rows: u32,
  K: u32,
  at: u32,
  size: u32,
  low: f32,
  high: f32,
  trial0: f32, // scales tried, as parts of a row's own
  trial1: f32,
  trial2: f32,
}

const block = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> u: array<f32>; // [K, K]
@group(0) @binding(2) var<storage, read> t: array<f32>; // [rows, K]
@group(0) @binding(3) var<storage, read> scales: array<f32>; // [rows]
@group(0) @binding(4) var<storage, read> before: array<f32>; // [3 rows, 64]
@group(0) @binding(5) var<storage, read> diagonal: array<f32>; // [K], the Hessian's
@group(0) @binding(6) var<storage, read_write> q: array<f32>; // [3 rows, K]
@group(0) @binding(7) var<storage, read_write> sums: array<vec4f>; // [3 rows]

var<workgroup> tile: array<f32, block * block>;

@compute @workgroup_size(block)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let size = params.size;
  for (var i = 0u; i < size; i++) {
    tile[i * block + lane] = u[(params.at + i) * params.K + params.at + min(lane, size - 1u)];
  }
  workgroupBarrier();
  let virtual_row = group.x * block + lane;
  if (virtual_row >= 3u * params.rows) {
    return;
  }
  let row = virtual_row % params.rows;
  let trial = virtual_row / params.rows;
  let scale = scales[row] * select(select(params.trial2, params.trial1, trial == 1u), params.trial0, trial == 0u);
  var z: array<f32, block>;
  for (var j = 0u; j < size; j++) {
    z[j] = before[virtual_row * block + j];
  }
  var sum = vec3f();
  for (var j = 0u; j < size; j++) {
    let pivot = tile[j * block + j];
    let wanted = t[row * params.K + params.at + j];
    var code = 0.0;
    if (diagonal[params.at + j] > 0.0) {
      code = clamp(floor((wanted / scale - z[j]) / pivot + 0.5), params.low, params.high);
    }
    let component = fma(code, pivot, z[j]);
    let lost = fma(-scale, component, wanted);
    sum += vec3f(lost * lost, lost * component, component * component);
    for (var i = j + 1u; i < size; i++) {
      z[i] = fma(code, tile[j * block + i], z[i]);
    }
    q[virtual_row * params.K + params.at + j] = code;
  }
  sums[virtual_row] += vec4f(sum, 0.0);
}
