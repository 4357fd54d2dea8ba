// General product in tiles, see gemm_operands.wgsl, which precedes it.
//
// Tiles and registers as in matmul_dense.wgsl: a workgroup of 128 owns 64 x 64 elements of C and walks K in steps of 16
// through workgroup memory, vec4 along k; an invocation has 8 x 4 sums. A transposed operand is read as 4 x 4 blocks, vec4
// along m or n, and turned in registers. An element's sum runs over k in order, whatever M and N are. With LOWER, tiles
// wholly above the diagonal are left alone.
// Grid: tiles of n in x, of m in y, batches in z.

const tile = 64u;
const invocations = 128u;
const fours = 4u; // vec4 along k per step
const pitch = 5u; // vec4 between lines of a tile
const lines_a = 8u; // of an invocation
const lines_b = 4u;

var<workgroup> a_tile: array<vec4f, tile * pitch>; // [64 m, 16 k]
var<workgroup> b_tile: array<vec4f, tile * pitch>; // [64 n, 16 k]

fn stage_a(index: u32, first: u32, base: u32, k0: u32) {
  if (A_TRANSPOSED) {
    for (var i = index; i < tile; i += invocations) { // 16 groups of m times 4 of k
      let m = first + 4u * (i % 16u);
      let k = k0 + 4u * (i / 16u);
      let count = within(m, params.M);
      let at = base + k * params.a_stride + m;
      let turned = transpose(mat4x4f(
        a_four(at, select(0u, count, k < params.K)),
        a_four(at + params.a_stride, select(0u, count, k + 1u < params.K)),
        a_four(at + 2u * params.a_stride, select(0u, count, k + 2u < params.K)),
        a_four(at + 3u * params.a_stride, select(0u, count, k + 3u < params.K)),
      ));
      for (var j = 0u; j < 4u; j++) {
        a_tile[(4u * (i % 16u) + j) * pitch + i / 16u] = turned[j];
      }
    }
    return;
  }
  for (var i = index; i < tile * fours; i += invocations) {
    let line = i / fours;
    let k = k0 + 4u * (i % fours);
    let count = select(0u, within(k, params.K), first + line < params.M);
    a_tile[line * pitch + i % fours] = a_four(base + (first + line) * params.a_stride + k, count);
  }
}

fn stage_b(index: u32, first: u32, base: u32, k0: u32) {
  if (B_TRANSPOSED) {
    for (var i = (index + tile) % invocations; i < tile; i += invocations) { // by the other half of the workgroup
      let n = first + 4u * (i % 16u);
      let k = k0 + 4u * (i / 16u);
      let count = within(n, params.N);
      let at = base + k * params.b_stride + n;
      let turned = transpose(mat4x4f(
        b_four(at, select(0u, count, k < params.K)),
        b_four(at + params.b_stride, select(0u, count, k + 1u < params.K)),
        b_four(at + 2u * params.b_stride, select(0u, count, k + 2u < params.K)),
        b_four(at + 3u * params.b_stride, select(0u, count, k + 3u < params.K)),
      ));
      for (var j = 0u; j < 4u; j++) {
        b_tile[(4u * (i % 16u) + j) * pitch + i / 16u] = turned[j];
      }
    }
    return;
  }
  for (var i = index; i < tile * fours; i += invocations) {
    let line = i / fours;
    let k = k0 + 4u * (i % fours);
    let count = select(0u, within(k, params.K), first + line < params.N);
    b_tile[line * pitch + i % fours] = b_four(base + (first + line) * params.b_stride + k, count);
  }
}

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let first_n = group.x * tile;
  let first_m = group.y * tile;
  if (LOWER && first_n >= first_m + tile) {
    return;
  }
  let a_base = params.a_offset + group.z * params.a_batch;
  let b_base = params.b_offset + group.z / params.b_group * params.b_batch;
  let c_base = params.c_offset + group.z * params.c_batch;
  let n_lane = index % 16u;
  let m_lane = index / 16u;
  var acc: array<vec4f, lines_a>; // [m, n]
  for (var k0 = 0u; k0 < params.K; k0 += 4u * fours) {
    stage_a(index, first_m, a_base, k0);
    stage_b(index, first_n, b_base, k0);
    workgroupBarrier();
    for (var four = 0u; four < fours; four++) {
      let b0 = b_tile[n_lane * pitch + four];
      let b1 = b_tile[(n_lane + 16u) * pitch + four];
      let b2 = b_tile[(n_lane + 32u) * pitch + four];
      let b3 = b_tile[(n_lane + 48u) * pitch + four];
      for (var line = 0u; line < lines_a; line++) {
        let v = a_tile[(m_lane + 8u * line) * pitch + four];
        let sums = acc[line];
        acc[line] = vec4f(dot4(sums.x, v, b0), dot4(sums.y, v, b1), dot4(sums.z, v, b2), dot4(sums.w, v, b3));
      }
    }
    workgroupBarrier();
  }
  for (var line = 0u; line < lines_a; line++) {
    let m = first_m + m_lane + 8u * line;
    for (var column = 0u; column < lines_b; column++) {
      let n = first_n + n_lane + 16u * column;
      store(c_base, m, n, acc[line][column]);
    }
  }
}
