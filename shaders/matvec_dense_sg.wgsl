// Dense product for few tokens: y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
// `matvec_dense` with subgroups: one subgroup owns one row at a time and adds its lanes with subgroupAdd.
//
// A workgroup of 256 owns ROWS_PER_GROUP rows (folded into grid x and y) of one token (z); its subgroups, S lanes each, take
// the rows in turn, so any S from 4 to 128 gives every row exactly one owner. The order depends on K and S, not on T. Of
// bytes a subgroup takes four rows at a time: an element of x is four times as long as one of theirs, and would else be
// most of what a lane loads.
// Preceded by dense_frame.wgsl and dense_vector.wgsl. Precondition: invocations of a one-dimensional workgroup fill its
// subgroups in order, as they do in every implementation known to the author.

override ROWS_PER_GROUP: u32 = 8;

const invocations = 256u;

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
          store(token, row + r, sums[r]);
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
      store(token, row, sum);
    }
  }
}
