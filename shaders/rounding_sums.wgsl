// Per column and clip ratio r_i, what rounding costs, over rows begin .. of x (Eq. 7 of MergeQuant):
//   activations (row_steps unused):  v = x[t, k] / (r_i * s_k),  q = clamp(round(v), low, high):
//                                    errors += (x - r_i * s_k * q)^2,  squares += q^2
//   WEIGHTS (migrated, unclamped):   v = r_i * s_k * x[n, k] / step_n:  errors += (step_n * (v - round(v)))^2,
//                                    squares += x^2
//
//   x [rows, K] f32, s [K] f32, row_steps [rows] f32, ratios [R] f32
//   ->  sums [slices, R, K] of vec2f (errors, squares)
//
// Workgroup (i, j, r): columns 64i .. 64i + 63, one an invocation, rows j * per_slice .., ratio r.

struct Params {
  rows: u32,
  K: u32,
  per_slice: u32,
  R: u32,
  low: f32,
  high: f32,
}

override WEIGHTS: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, K]
@group(0) @binding(2) var<storage, read> scales: array<f32>; // [K]
@group(0) @binding(3) var<storage, read> row_steps: array<f32>; // [rows]
@group(0) @binding(4) var<storage, read> ratios: array<f32>; // [R]
@group(0) @binding(5) var<storage, read_write> sums: array<vec2f>; // [slices, R, K]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let k = 64u * group.x + lane;
  if (k >= params.K) {
    return;
  }
  let scale = ratios[group.z] * scales[k];
  let end = min((group.y + 1u) * params.per_slice, params.rows);
  var sum = vec2f();
  for (var n = group.y * params.per_slice; n < end; n++) {
    let value = x[n * params.K + k];
    if (WEIGHTS) {
      let step = row_steps[n];
      if (step > 0.0) {
        let inSteps = scale * value / step;
        let lost = step * (inSteps - round(inSteps));
        sum.x = fma(lost, lost, sum.x);
      }
      sum.y = fma(value, value, sum.y);
    } else if (scale > 0.0) {
      let q = clamp(round(value / scale), params.low, params.high);
      let lost = value - scale * q;
      sum += vec2f(lost * lost, q * q);
    }
  }
  sums[(group.y * params.R + group.z) * params.K + k] = sum;
}
