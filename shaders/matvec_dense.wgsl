// Dense product for few tokens: y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
//
// 32 lanes own one row; a workgroup of 256 owns 8 rows (folded into grid x and y) of one token (z). A tree in workgroup memory
// adds the lanes. The order depends on K alone, not on T. `matvec_dense_sg` and `matmul_dense` add in other orders.
// Preceded by dense_frame.wgsl and dense_vector.wgsl.

const invocations = 256u;
const lanes = 32u; // per row
const rows_per_group = invocations / lanes;

var<workgroup> sums: array<f32, invocations>;

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
  sums[index] = partial_sum(min(row, params.rows - 1u), token, lane, lanes);
  for (var width = lanes / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      sums[index] += sums[index + width];
    }
  }
  if (lane == 0u && row < params.rows) {
    store(token, row, sums[index]);
  }
}
