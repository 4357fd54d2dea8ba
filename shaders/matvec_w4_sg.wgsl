// Packed int4 matrix-vector product over integer activations, one subgroup per output row:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows.   i32 accumulators, exact.
//
// Lane l of a subgroup of S lanes owns the 16-byte pieces l, l + S, ... of its row; UNROLL (at most 6) of them are loaded
// before the first is used, because one load in flight per lane reaches less than half of a fast memory's bandwidth.
// Where a row has no such piece its last one is loaded again and counts as zeros: no branches, so that all loads are in
// flight together, and no rest that waits for memory once more.
// The grid's z is the token; its x and y cover the rows, and a loop takes up what is left when subgroups are wider than
// the grid was computed for. Preceded by w4_dot.wgsl and w4_store.wgsl.
// Preconditions: K' is a multiple of 32; WORKGROUP is a power of two; invocations form
// subgroups in the order of their local index.

struct Params {
  K_pieces: u32, // K' / 32
  rows: u32,
  row_start: u32,
  N: u32,
}

struct Step {
  num_tokens: u32,
}

override WORKGROUP: u32 = 256;
override UNROLL: u32 = 4;
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> q: array<vec4u>; // [T, K'/16]
@group(0) @binding(3) var<storage, read> qmeta: array<vec2u>; // [T]
@group(0) @binding(4) var<storage, read> weight: array<vec4u>; // [rows, K'/32]
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [N]
@group(0) @binding(6) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [T, N]

const most_unroll = 6u;

/// One lane's share of a row: pieces lane, lane + stride, ...
fn dot_share(t: u32, row: u32, lane: u32, stride: u32) -> i32 {
  let last = params.K_pieces - 1u;
  var acc = 0;
  for (var first = lane; first < params.K_pieces; first += UNROLL * stride) {
    var weights: array<vec4u, most_unroll>;
    for (var i = 0u; i < UNROLL; i++) {
      weights[i] = weight[row * params.K_pieces + min(first + i * stride, last)];
    }
    for (var i = 0u; i < UNROLL; i++) {
      let piece = first + i * stride;
      let w = select(vec4u(), weights[i], piece <= last);
      let at = 2u * (t * params.K_pieces + min(piece, last));
      acc += dot32(w, q[at], q[at + 1u]);
    }
  }
  return acc;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32, @builtin(subgroup_size) subgroup_size: u32) {
  let t = group.z;
  if (t >= step.num_tokens) {
    return;
  }
  let lanes = min(subgroup_size, WORKGROUP);
  let rows_per_group = WORKGROUP / lanes;
  let lane = local % lanes;
  let rows_per_grid = groups.x * groups.y * rows_per_group;
  let group_first = (group.y * groups.x + group.x) * rows_per_group;
  for (var first = group_first; first < params.rows; first += rows_per_grid) {
    let row = first + local / lanes;
    var acc = 0;
    if (row < params.rows) {
      acc = dot_share(t, row, lane, lanes);
    }
    let total = subgroupAdd(acc);
    if (lane == 0u && row < params.rows) {
      store(t, params.row_start + row, total);
    }
  }
}
