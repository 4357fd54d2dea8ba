// General product without cooperation, see gemm_operands.wgsl, which precedes it: what a software adapter runs fastest.
//
// One invocation per 4 x 4 elements of C, no workgroup memory and no barrier; workgroups of 8 x 8, so that LOWER leaves the
// same tiles of 32 x 32 alone. An element's sum runs over k in order, as in gemm.wgsl: the same bits.
// Grid: tiles of n in x, of m in y, batches in z.

// Lines first .. first + 3, elements k .. k + 3 of each.
fn a_block(first: u32, base: u32, k: u32) -> mat4x4f {
  var block: mat4x4f;
  for (var i = 0u; i < 4u; i++) {
    if (A_TRANSPOSED) {
      block[i] = a_four(base + (k + i) * params.a_stride + first, select(0u, within(first, params.M), k + i < params.K));
    } else {
      let count = select(0u, within(k, params.K), first + i < params.M);
      block[i] = a_four(base + (first + i) * params.a_stride + k, count);
    }
  }
  if (A_TRANSPOSED) {
    return transpose(block);
  }
  return block;
}

fn b_block(first: u32, base: u32, k: u32) -> mat4x4f {
  var block: mat4x4f;
  for (var i = 0u; i < 4u; i++) {
    if (B_TRANSPOSED) {
      block[i] = b_four(base + (k + i) * params.b_stride + first, select(0u, within(first, params.N), k + i < params.K));
    } else {
      let count = select(0u, within(k, params.K), first + i < params.N);
      block[i] = b_four(base + (first + i) * params.b_stride + k, count);
    }
  }
  if (B_TRANSPOSED) {
    return transpose(block);
  }
  return block;
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
  var acc: mat4x4f; // [m][n]
  for (var k = 0u; k < params.K; k += 4u) {
    let x = a_block(m, a_base, k);
    let w = b_block(n, b_base, k);
    for (var i = 0u; i < 4u; i++) {
      let v = x[i];
      let sums = acc[i];
      acc[i] = vec4f(dot4(sums.x, v, w[0]), dot4(sums.y, v, w[1]), dot4(sums.z, v, w[2]), dot4(sums.w, v, w[3]));
    }
  }
  for (var i = 0u; i < 4u; i++) {
    for (var j = 0u; j < 4u; j++) {
      store(c_base, m + i, n + j, acc[i][j]);
    }
  }
}
