// Packed int4 matrix-vector product over integer activations, LANES invocations per output row, no subgroups:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows.   i32 accumulators, exact.
//
// A workgroup owns WORKGROUP / LANES rows. Lane l of a row owns its 16-byte pieces l, l + LANES, ...; UNROLL (1, 2 or 4)
// of them are loaded before the first is used, because one load in flight per lane reaches less than half of a fast
// memory's bandwidth. A binary tree in workgroup memory adds the lanes. The grid's z is the token, x and y fold the rows.
// Preceded by w4_dot.wgsl and w4_store.wgsl. Preconditions: K' is a multiple of 32; LANES and WORKGROUP are powers of two, LANES <= WORKGROUP.

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
override LANES: u32 = 32;
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

var<workgroup> partial: array<i32, WORKGROUP>;

/// A 16-byte piece of weights with its two 16-byte pieces of activations.
fn dot_piece(w: vec4u, at: u32) -> i32 {
  return dot32(w, q[2u * at], q[2u * at + 1u]);
}

/// One lane's share of a row: pieces lane, lane + stride, ...
fn dot_share(t: u32, row: u32, lane: u32, stride: u32) -> i32 {
  let weights = row * params.K_pieces;
  let activations = t * params.K_pieces;
  var acc = 0;
  var i = lane;
  for (; i + (UNROLL - 1u) * stride < params.K_pieces; i += UNROLL * stride) {
    let w0 = weight[weights + i];
    var w1 = vec4u();
    var w2 = vec4u();
    var w3 = vec4u();
    if (UNROLL > 1u) {
      w1 = weight[weights + i + stride];
    }
    if (UNROLL > 2u) {
      w2 = weight[weights + i + 2u * stride];
      w3 = weight[weights + i + 3u * stride];
    }
    acc += dot_piece(w0, activations + i);
    if (UNROLL > 1u) {
      acc += dot_piece(w1, activations + i + stride);
    }
    if (UNROLL > 2u) {
      acc += dot_piece(w2, activations + i + 2u * stride);
      acc += dot_piece(w3, activations + i + 3u * stride);
    }
  }
  for (; i < params.K_pieces; i += stride) {
    acc += dot_piece(weight[weights + i], activations + i);
  }
  return acc;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let t = group.z;
  if (t >= step.num_tokens) {
    return;
  }
  let lane = local % LANES;
  let row = (group.y * groups.x + group.x) * (WORKGROUP / LANES) + local / LANES;
  if (row < params.rows) {
    partial[local] = dot_share(t, row, lane, LANES);
  }
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      partial[local] += partial[local + width];
    }
  }
  if (lane == 0u && row < params.rows) {
    store(t, params.row_start + row, partial[local]);
  }
}
