// Packed int4 product over integer activations for a few tokens, one subgroup per two neighbouring rows, weights read once:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows.   i32 accumulators, exact.
//
// As `matvec_w4_sg`, but each piece of weights that a lane has loaded and unpacked meets all tokens of its group of
// TOKENS before the next one. The grid's x is the group, so that groups that read the same weights run at the same time and
// share them in the cache; y and z cover the rows. Two rows share what they fetch of the activations. Where a group
// has fewer tokens, its last one is counted again and not stored: no branches, so that loads are in flight together.
// Preconditions: K' is a multiple of 32; WORKGROUP is a power of two, no smaller than a subgroup; invocations form
// subgroups in the order of their local index. Preceded by w4_store.wgsl.

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
override UNROLL: u32 = 2; // 16-byte loads in flight per row, at most 6
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;

override TOKENS: u32 = 2; // of a group, at most most_tokens

const most_tokens = 8u;
const most_unroll = 6u;
const low = 0x0F0F0F0Fu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> q: array<vec4u>; // [T, K'/16]
@group(0) @binding(3) var<storage, read> qmeta: array<vec2u>; // [T]
@group(0) @binding(4) var<storage, read> weight: array<vec4u>; // [rows, K'/32]
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [N]
@group(0) @binding(6) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [T, N]

/// acc + 32 products with the low and high nibbles of a piece, each in bytes of their own.
fn add_products(acc: i32, lows: vec4u, highs: vec4u, first: vec4u, second: vec4u) -> i32 {
  let a = dot4I8Packed(first.y, highs.x) + (dot4I8Packed(first.x, lows.x) + acc);
  let b = dot4I8Packed(first.w, highs.y) + (dot4I8Packed(first.z, lows.y) + a);
  let c = dot4I8Packed(second.y, highs.z) + (dot4I8Packed(second.x, lows.z) + b);
  return dot4I8Packed(second.w, highs.w) + (dot4I8Packed(second.z, lows.w) + c);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32, @builtin(subgroup_size) subgroup_size: u32) {
  let first_token = group.x * TOKENS;
  if (first_token >= step.num_tokens) {
    return;
  }
  let count = min(TOKENS, step.num_tokens - first_token);
  let lanes = min(subgroup_size, WORKGROUP);
  let lane = local % lanes;
  let rows_per_group = 2u * (WORKGROUP / lanes);
  let rows_per_grid = groups.y * groups.z * rows_per_group;
  let group_first = (group.z * groups.y + group.y) * rows_per_group;
  let last = params.K_pieces - 1u;
  for (var first_row = group_first; first_row < params.rows; first_row += rows_per_grid) {
    let row = first_row + 2u * (local / lanes);
    let upper = min(row, params.rows - 1u) * params.K_pieces;
    let lower = min(row + 1u, params.rows - 1u) * params.K_pieces;
    var acc = array<vec2i, most_tokens>(); // of both rows; without a value, some compilers empty it in the first round alone
    for (var first = lane; first < params.K_pieces; first += UNROLL * lanes) {
      var uppers: array<vec4u, most_unroll>;
      var lowers: array<vec4u, most_unroll>;
      for (var i = 0u; i < UNROLL; i++) {
        uppers[i] = weight[upper + min(first + i * lanes, last)];
        lowers[i] = weight[lower + min(first + i * lanes, last)];
      }
      for (var i = 0u; i < UNROLL; i++) {
        let piece = first + i * lanes;
        let is_there = piece <= last; // otherwise the last piece again, counted as zeros
        let w = select(vec4u(), uppers[i], is_there);
        let v = select(vec4u(), lowers[i], is_there);
        for (var t = 0u; t < TOKENS; t++) {
          let at = 2u * ((first_token + min(t, count - 1u)) * params.K_pieces + min(piece, last));
          let a = q[at];
          let b = q[at + 1u];
          acc[t] = vec2i(add_products(acc[t].x, w & vec4u(low), (w >> vec4u(4u)) & vec4u(low), a, b),
                         add_products(acc[t].y, v & vec4u(low), (v >> vec4u(4u)) & vec4u(low), a, b));
        }
      }
    }
    for (var t = 0u; t < TOKENS; t++) {
      if (t < count) {
        let total = vec2i(subgroupAdd(acc[t].x), subgroupAdd(acc[t].y));
        if (lane == 0u && row < params.rows) {
          store(first_token + t, params.row_start + row, total.x);
        }
        if (lane == 0u && row + 1u < params.rows) {
          store(first_token + t, params.row_start + row + 1u, total.y);
        }
      }
    }
  }
}
