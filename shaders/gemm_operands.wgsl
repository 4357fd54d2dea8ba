// Shared by the two kernels of the general product (it is put in front of them, behind dot4.wgsl): C[m, n] = alpha * sum_k A(m, k) * B(n, k)
// (+ bias[n]) (+ C[m, n]), float32.
//
//   A(m, k) = a[a_offset + m * a_stride + k], or a[a_offset + k * a_stride + m] with A_TRANSPOSED; B alike, by n
//   ->  c[c_offset + m * c_stride + n], [M, N] f32
//
// z of the grid is the number of a batch: a and c move on by a_batch and c_batch elements each, b every b_group batches by
// b_batch. Elements beyond an edge count as 0. The offline method is made of it: linears (x * W^T), Gram matrices (X^T * X:
// both transposed, LOWER), attention scores and values of many heads, a Cholesky factor's trailing update (alpha = -1,
// LOWER), targets and partial sums of GPTQ.

struct Params {
  M: u32,
  N: u32,
  K: u32,
  a_offset: u32,
  a_stride: u32,
  a_batch: u32,
  b_offset: u32,
  b_stride: u32,
  b_batch: u32,
  b_group: u32, // batches that share a b
  c_offset: u32,
  c_stride: u32,
  c_batch: u32,
  alpha: f32,
}

override A_TRANSPOSED: bool = false;
override B_TRANSPOSED: bool = false;
// Whole vec4 loads: offset, stride and batch are multiples of 4 and, where k is the inner dimension, K is, too.
override A_FOURS: bool = true;
override B_FOURS: bool = true;
override ACCUMULATE: bool = false;
override LOWER: bool = false;
override HAS_BIAS: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(4) var<storage, read_write> c: array<f32>;

fn a_element(i: u32) -> f32 {
  return a[i / 4u][i % 4u];
}

fn b_element(i: u32) -> f32 {
  return b[i / 4u][i % 4u];
}

// The element at i where `inside`, else 0.
fn a_at(inside: bool, i: u32) -> f32 {
  if (inside) {
    return a_element(i);
  }
  return 0.0;
}

fn b_at(inside: bool, i: u32) -> f32 {
  if (inside) {
    return b_element(i);
  }
  return 0.0;
}

// Four elements from i on, the first `count` of them (0 .. 4).
fn a_four(i: u32, count: u32) -> vec4f {
  if (count == 0u) {
    return vec4f();
  }
  if (A_FOURS) {
    return a[i / 4u];
  }
  return vec4f(a_element(i), a_at(count > 1u, i + 1u), a_at(count > 2u, i + 2u), a_at(count > 3u, i + 3u));
}

fn b_four(i: u32, count: u32) -> vec4f {
  if (count == 0u) {
    return vec4f();
  }
  if (B_FOURS) {
    return b[i / 4u];
  }
  return vec4f(b_element(i), b_at(count > 1u, i + 1u), b_at(count > 2u, i + 2u), b_at(count > 3u, i + 3u));
}

// How many of the four elements from `at` on lie below `end`.
fn within(at: u32, end: u32) -> u32 {
  return min(end - min(at, end), 4u);
}

// What is stored of a sum.
fn store(c_base: u32, m: u32, n: u32, sum: f32) {
  if (m >= params.M || n >= params.N) {
    return;
  }
  let at = c_base + m * params.c_stride + n;
  var value = params.alpha * sum;
  if (HAS_BIAS) {
    value += bias[n];
  }
  if (ACCUMULATE) {
    value += c[at];
  }
  c[at] = value;
}
