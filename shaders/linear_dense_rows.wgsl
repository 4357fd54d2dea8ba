// Dense product without cooperation: y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
//
//   x [T, K] f32, weight [rows, stride] f16 or f32  ->  y [T, N] f32, columns row_start .. row_start + rows
//
// One invocation per row and token, no workgroup memory and no barrier: what a software adapter runs fastest, and a
// second reference for the others. A row's elements are added in order into four interleaved sums.
// Precondition: padding elements of a weight row are 0. Nothing is read of x beyond K.

struct Params {
  K: u32,
  rows: u32, // of this block
  row_start: u32,
  N: u32,
  quads: u32, // 16-byte words of a stored weight row
}

struct Step {
  num_tokens: u32,
}

override F16: bool = true; // weights are halves, low half first; else floats
override SINGLE_ROW: bool = false; // row 0 of x only, whatever num_tokens says
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;
override WORKGROUP: u32 = 64;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>; // [T, K]
@group(0) @binding(3) var<storage, read> weight: array<vec4u>; // [rows, quads]
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, N]

// Elements k .. k + 3 of the token that starts at `base`, 0 beyond K.
fn x_four(base: u32, k: u32) -> vec4f {
  if (k + 4u <= params.K) {
    return vec4f(x[base + k], x[base + k + 1u], x[base + k + 2u], x[base + k + 3u]);
  }
  var four = vec4f();
  for (var e = 0u; k + e < params.K; e++) {
    four[e] = x[base + k + e];
  }
  return four;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * WORKGROUP + index;
  let token = group.z;
  if (row >= params.rows || (!SINGLE_ROW && token >= step.num_tokens)) {
    return;
  }
  let x_base = token * params.K;
  let base = row * params.quads;
  var acc = vec4f();
  for (var i = 0u; i < params.quads; i++) {
    let quad = weight[base + i];
    if (F16) {
      acc = fma(vec4f(unpack2x16float(quad.x), unpack2x16float(quad.y)), x_four(x_base, 8u * i), acc);
      acc = fma(vec4f(unpack2x16float(quad.z), unpack2x16float(quad.w)), x_four(x_base, 8u * i + 4u), acc);
    } else {
      acc = fma(bitcast<vec4f>(quad), x_four(x_base, 4u * i), acc);
    }
  }
  var sum = (acc.x + acc.y) + (acc.z + acc.w);
  let n = params.row_start + row;
  if (HAS_BIAS) {
    sum += bias[n];
  }
  if (ACCUMULATE) {
    sum += y[token * params.N + n];
  }
  y[token * params.N + n] = sum;
}
