// Dense product for few tokens: y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
// `matvec_dense` with subgroups: one subgroup owns one row at a time and adds its lanes with subgroupAdd.
//
//   x [T, K] f32, weight [rows, stride] f16, f32 or int8 with scale [N]  ->  y [T, N] f32, columns row_start .. row_start + rows
//
// Memory bound, so built around 16-byte loads of the weight: a "quad" is 8 halves, 4 floats or 16 bytes, four independent ones in
// flight per lane. A workgroup of 256 owns ROWS_PER_GROUP rows (folded into grid x and y) of one token (z); its
// subgroups, S lanes each, take the rows in turn, so any S from 4 to 128 gives every row exactly one owner.
// Lane l takes quads l, l + S, ...; the order depends on K and S, not on T. Of bytes a subgroup takes four rows at a time: an
// element of x is four times as long as one of theirs, and would else be most of what a lane loads.
// Preconditions: padding elements of a weight row are 0 (nothing is read of x beyond K); invocations of a
// one-dimensional workgroup fill its subgroups in order, as they do in every implementation known to the author.

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
override ROWS_PER_GROUP: u32 = 8;

const invocations = 256u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4f>; // [T, K] floats, seen in fours
@group(0) @binding(3) var<storage, read> weight: array<vec4u>; // [rows, quads]
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, N]
@group(0) @binding(6) var<storage, read> scale: array<f32>; // [N] of bytes

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
  return 0.0; // bytes: dot_bytes
}

// A quad of bytes with its 16 elements of x.
fn dot_bytes(quad: vec4u, x0: vec4f, x1: vec4f, x2: vec4f, x3: vec4f) -> f32 {
  return (dot(bytes_of(quad.x), x0) + dot(bytes_of(quad.y), x1)) + (dot(bytes_of(quad.z), x2) + dot(bytes_of(quad.w), x3));
}

// This lane's share of the sums of up to four rows of bytes from `row`; rows behind the block as its last one.
fn byte_sums(row: u32, token: u32, lane: u32, lanes: u32) -> vec4f {
  let last = params.rows - 1u;
  let base0 = min(row, last) * params.quads;
  let base1 = min(row + 1u, last) * params.quads;
  let base2 = min(row + 2u, last) * params.quads;
  let base3 = min(row + 3u, last) * params.quads;
  var sums = vec4f();
  for (var i = lane; i < params.quads; i += lanes) {
    let quad0 = weight[base0 + i];
    let quad1 = weight[base1 + i];
    let quad2 = weight[base2 + i];
    let quad3 = weight[base3 + i];
    let x0 = x_four(token, 4u * i);
    let x1 = x_four(token, 4u * i + 1u);
    let x2 = x_four(token, 4u * i + 2u);
    let x3 = x_four(token, 4u * i + 3u);
    sums += vec4f(dot_bytes(quad0, x0, x1, x2, x3), dot_bytes(quad1, x0, x1, x2, x3),
                  dot_bytes(quad2, x0, x1, x2, x3), dot_bytes(quad3, x0, x1, x2, x3));
  }
  return sums;
}

fn store(row: u32, token: u32, row_sum: f32) {
  let n = params.row_start + row;
  var sum = row_sum;
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

// This lane's share of a row's sum.
fn partial_sum(row: u32, token: u32, lane: u32, lanes: u32) -> f32 {
  let base = row * params.quads;
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
  return (acc.x + acc.y) + (acc.z + acc.w);
}

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32, @builtin(subgroup_invocation_id) lane: u32,
        @builtin(subgroup_size) lanes: u32) {
  let first = (group.y * groups.x + group.x) * ROWS_PER_GROUP;
  let token = group.z;
  if (first >= params.rows || (!SINGLE_ROW && token >= step.num_tokens)) {
    return;
  }
  let end = min(first + ROWS_PER_GROUP, params.rows);
  let subgroups = invocations / lanes;
  // Every subgroup makes as many turns, so that subgroupAdd stays in uniform control flow.
  if (ELEMENT_BYTES == 1u) {
    for (var turn = first; turn < end; turn += 4u * subgroups) {
      let row = turn + index / lanes * 4u;
      let sums = subgroupAdd(byte_sums(row, token, lane, lanes));
      for (var r = 0u; r < 4u; r++) {
        if (lane == 0u && row + r < end) {
          store(row + r, token, sums[r]);
        }
      }
    }
    return;
  }
  for (var turn = first; turn < end; turn += subgroups) {
    let row = turn + index / lanes;
    var share = 0.0;
    if (row < end) {
      share = partial_sum(row, token, lane, lanes);
    }
    let sum = subgroupAdd(share);
    if (lane == 0u && row < end) {
      store(row, token, sum);
    }
  }
}
