// Dense product for few tokens: y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
//
//   x [T, K] f32, weight [rows, stride] f16, f32 or int8 with scale [N]  ->  y [T, N] f32, columns row_start .. row_start + rows
//
// Memory bound, so built around 16-byte loads of the weight: a "quad" is 8 halves, 4 floats or 16 bytes. 32 lanes own one row and
// keep four independent quads in flight; a workgroup of 256 owns 8 rows (folded into grid x and y) of one token (z).
// Lane l takes quads l, l + 32, ...; quads of one unrolled step go to four accumulators, a tree in workgroup memory adds
// the lanes. The order depends on K alone, not on T. `matvec_dense_sg` and `matmul_dense` add in other orders.
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

override ELEMENT_BYTES: u32 = 2; // weights are 4: floats, 2: halves, 1: signed bytes with a scale a row
override K_ALIGN: u32 = 8; // 16 (of bytes) or 8, 4 or 1: the largest of these that divides K
override SINGLE_ROW: bool = false; // row 0 of x only, whatever num_tokens says
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;

const invocations = 256u;
const lanes = 32u; // per row
const rows_per_group = invocations / lanes;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4f>; // [T, K] floats, seen in fours
@group(0) @binding(3) var<storage, read> weight: array<vec4u>; // [rows, quads]
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, N]
@group(0) @binding(6) var<storage, read> scale: array<f32>; // [N] of bytes

var<workgroup> sums: array<f32, invocations>;

fn x_element(token: u32, k: u32) -> f32 {
  if (k >= params.K) {
    return 0.0;
  }
  let i = token * params.K + k;
  return x[i / 4u][i % 4u];
}

// Elements 4i .. 4i + 3 of a token, 0 beyond K.
fn x_four(token: u32, i: u32) -> vec4f {
  if (K_ALIGN == 1u) {
    let k = 4u * i;
    return vec4f(x_element(token, k), x_element(token, k + 1u), x_element(token, k + 2u), x_element(token, k + 3u));
  }
  if (K_ALIGN == 4u && 4u * i >= params.K) {
    return vec4f();
  }
  return x[token * (params.K / 4u) + i];
}

// Four signed bytes, the lowest first.
fn bytes_of(word: u32) -> vec4f {
  return vec4f(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}

fn dot_quad(quad: vec4u, token: u32, i: u32) -> f32 {
  if (ELEMENT_BYTES == 4u) {
    return dot(bitcast<vec4f>(quad), x_four(token, i));
  }
  if (ELEMENT_BYTES == 2u) {
    let low = vec4f(unpack2x16float(quad.x), unpack2x16float(quad.y));
    let high = vec4f(unpack2x16float(quad.z), unpack2x16float(quad.w));
    return dot(low, x_four(token, 2u * i)) + dot(high, x_four(token, 2u * i + 1u));
  }
  let first = dot(bytes_of(quad.x), x_four(token, 4u * i)) + dot(bytes_of(quad.y), x_four(token, 4u * i + 1u));
  return first + (dot(bytes_of(quad.z), x_four(token, 4u * i + 2u)) + dot(bytes_of(quad.w), x_four(token, 4u * i + 3u)));
}

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let block = group.y * groups.x + group.x;
  let token = group.z;
  if (block * rows_per_group >= params.rows || (!SINGLE_ROW && token >= step.num_tokens)) {
    return;
  }
  let lane = index % lanes;
  let row = block * rows_per_group + index / lanes;
  let base = min(row, params.rows - 1u) * params.quads;
  var acc = vec4f();
  var i = lane;
  for (; i + 3u * lanes < params.quads; i += 4u * lanes) {
    let quad0 = weight[base + i];
    let quad1 = weight[base + i + lanes];
    let quad2 = weight[base + i + 2u * lanes];
    let quad3 = weight[base + i + 3u * lanes];
    acc += vec4f(dot_quad(quad0, token, i), dot_quad(quad1, token, i + lanes),
                 dot_quad(quad2, token, i + 2u * lanes), dot_quad(quad3, token, i + 3u * lanes));
  }
  for (; i < params.quads; i += lanes) {
    acc.x += dot_quad(weight[base + i], token, i);
  }
  sums[index] = (acc.x + acc.y) + (acc.z + acc.w);
  for (var width = lanes / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      sums[index] += sums[index + width];
    }
  }
  if (lane == 0u && row < params.rows) {
    let n = params.row_start + row;
    var sum = sums[index];
    if (ELEMENT_BYTES == 1u) {
      sum *= scale[n];
    }
    if (HAS_BIAS) {
      sum += bias[n];
    }
    if (ACCUMULATE) {
      sum += y[token * params.N + n];
    }
    y[token * params.N + n] = sum;
  }
}
