// Dense product without cooperation: y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
//
//   x [T, K] f32, weight [rows, stride] f16, f32 or int8 with scale [N]  ->  y [T, N] f32, columns row_start .. row_start + rows
//
// One invocation per row and TOKENS tokens, no workgroup memory and no barrier: what a software adapter runs fastest, and
// a second reference for the others. Widening a half costs such an adapter more than using it, so each one is used for
// several tokens. A token's elements are added in order into four interleaved sums, whatever T is.
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

override TOKENS: u32 = 4; // 1 (decode) or 4 (prefill); a last group of fewer repeats its last token and stores it once

override K_ALIGN: u32 = 8; // 16 (of bytes) or 8, 4 or 1: the largest of these that divides K
override ELEMENT_BYTES: u32 = 2; // weights are 4: floats, 2: halves, 1: signed bytes with a scale a row
override fours_per_quad = 4u / ELEMENT_BYTES;
override SINGLE_ROW: bool = false; // row 0 of x only, whatever num_tokens says
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;
override WORKGROUP: u32 = 64;

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

// Elements 4j .. 4j + 3 of a quad.
fn four_of(quad: vec4u, j: u32) -> vec4f {
  if (ELEMENT_BYTES == 4u) {
    return bitcast<vec4f>(quad);
  }
  if (ELEMENT_BYTES == 2u) {
    return vec4f(unpack2x16float(quad[2u * j]), unpack2x16float(quad[2u * j + 1u]));
  }
  return bytes_of(quad[j]);
}

// Four signed bytes, the lowest first.
fn bytes_of(word: u32) -> vec4f {
  return vec4f(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}

fn store(token: u32, row: u32, acc: vec4f) {
  var sum = (acc.x + acc.y) + (acc.z + acc.w);
  let n = params.row_start + row;
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

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * WORKGROUP + index;
  let tokens = select(step.num_tokens, 1u, SINGLE_ROW);
  let t0 = group.z * TOKENS;
  if (row >= params.rows || t0 >= tokens) {
    return;
  }
  let t1 = min(t0 + 1u, tokens - 1u);
  let t2 = min(t0 + 2u, tokens - 1u);
  let t3 = min(t0 + 3u, tokens - 1u);
  let base = row * params.quads;
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var i = 0u; i < params.quads; i++) {
    let quad = weight[base + i];
    for (var j = 0u; j < fours_per_quad; j++) {
      let at = fours_per_quad * i + j;
      let four = four_of(quad, j);
      acc0 = fma(four, x_four(t0, at), acc0);
      if (TOKENS > 1u) {
        acc1 = fma(four, x_four(t1, at), acc1);
        acc2 = fma(four, x_four(t2, at), acc2);
        acc3 = fma(four, x_four(t3, at), acc3);
      }
    }
  }
  store(t0, row, acc0);
  if (t1 > t0 && TOKENS > 1u) {
    store(t1, row, acc1);
  }
  if (t2 > t1 && TOKENS > 1u) {
    store(t2, row, acc2);
  }
  if (t3 > t2 && TOKENS > 1u) {
    store(t3, row, acc3);
  }
}
