// General product without cooperation, see gemm_operands.wgsl, which precedes it: what a software adapter runs fastest.
//
// One invocation per 4 x 4 elements of C, no workgroup memory and no barrier; workgroups of 8 x 8, so that LOWER leaves the
// same tiles of 32 x 32 alone. An element's sum runs over k in order, as in gemm.wgsl: the same bits.
// Grid: tiles of n in x, of m in y, batches in z.

// Elements k .. k + 3 of line `line`.
fn a_line(line: u32, base: u32, k: u32) -> vec4f {
  return a_four(base + line * params.a_stride + k, select(0u, within(k, params.K), line < params.M));
}

fn b_line(line: u32, base: u32, k: u32) -> vec4f {
  return b_four(base + line * params.b_stride + k, select(0u, within(k, params.K), line < params.N));
}

// Lines first .. first + 3 at element k, of a transposed operand.
fn a_across(first: u32, base: u32, k: u32) -> vec4f {
  return a_four(base + k * params.a_stride + first, select(0u, within(first, params.M), k < params.K));
}

fn b_across(first: u32, base: u32, k: u32) -> vec4f {
  return b_four(base + k * params.b_stride + first, select(0u, within(first, params.N), k < params.K));
}

// Lines first .. first + 3, elements k .. k + 3 of each.
fn a_block(first: u32, base: u32, k: u32) -> mat4x4f {
  if (A_TRANSPOSED) {
    return transpose(mat4x4f(a_across(first, base, k), a_across(first, base, k + 1u), a_across(first, base, k + 2u),
                             a_across(first, base, k + 3u)));
  }
  return mat4x4f(a_line(first, base, k), a_line(first + 1u, base, k), a_line(first + 2u, base, k), a_line(first + 3u, base, k));
}

fn b_block(first: u32, base: u32, k: u32) -> mat4x4f {
  if (B_TRANSPOSED) {
    return transpose(mat4x4f(b_across(first, base, k), b_across(first, base, k + 1u), b_across(first, base, k + 2u),
                             b_across(first, base, k + 3u)));
  }
  return mat4x4f(b_line(first, base, k), b_line(first + 1u, base, k), b_line(first + 2u, base, k), b_line(first + 3u, base, k));
}

// sums of one line of C, by its element v of A.
fn add(sums: vec4f, v: vec4f, w: mat4x4f) -> vec4f {
  return vec4f(dot4(sums.x, v, w[0]), dot4(sums.y, v, w[1]), dot4(sums.z, v, w[2]), dot4(sums.w, v, w[3]));
}

fn store_line(c_base: u32, m: u32, n: u32, sums: vec4f) {
  store(c_base, m, n, sums.x);
  store(c_base, m, n + 1u, sums.y);
  store(c_base, m, n + 2u, sums.z);
  store(c_base, m, n + 3u, sums.w);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let n = 32u * group.x + 4u * lane.x;
  let m = 32u * group.y + 4u * lane.y;
  if (m >= params.M || n >= params.N || (LOWER && group.x > group.y)) {
    return;
  }
  let a_base = params.a_offset + group.z * params.a_batch;
  let b_base = params.b_offset + group.z / params.b_group * params.b_batch;
  let c_base = params.c_offset + group.z * params.c_batch;
  var acc0 = vec4f(); // named, since such an adapter keeps indexed variables in memory
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var k = 0u; k < params.K; k += 4u) {
    let x = a_block(m, a_base, k);
    let w = b_block(n, b_base, k);
    acc0 = add(acc0, x[0], w);
    acc1 = add(acc1, x[1], w);
    acc2 = add(acc2, x[2], w);
    acc3 = add(acc3, x[3], w);
  }
  store_line(c_base, m, n, acc0);
  store_line(c_base, m + 1u, n, acc1);
  store_line(c_base, m + 2u, n, acc2);
  store_line(c_base, m + 3u, n, acc3);
}
