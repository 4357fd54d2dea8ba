// Packed int4 matrix-vector product over integer activations, by subgroups:
//   y[t,n] (+)= f32(sum_k q[t,k] * u[n,k] - 8 * sum_k q[t,k]) * (scale_n * s_t) (+ bias_n),   w = u - 8   (Eq. 5)
//
//   q [T, K'] i8 packed by 4, qmeta [T] (s_t, sum of q), weight [rows, K'] offset-binary nibbles, scale, bias [N] f32
//   ->  y [T, N] f32, columns row_start .. row_start + rows.   i32 accumulators, exact.
//
// A team of SPLIT subgroups owns ROWS (1 or 2) neighbouring rows, which share what they fetch of the activations. Lane l of a
// team of S lanes owns the 16-byte pieces l, l + S, ... as far as they are whole rounds of all lanes; UNROLL (1, 2 or 4) of
// them per row are loaded before the first is used. What is behind the whole rounds is loaded in front of them: as words of
// 4 bytes where each lane needs one at most, so that little is computed for nothing, as pieces otherwise. Nothing in a round
// is clamped or masked: instructions between loads are what keeps short rows from the memory's bandwidth (docs/LOG.md). For
// the same reason the number of rounds is a constant of the pipeline where the device has one subgroup size (LANES).
// The grid's z is the token; its x and y cover the rows, and a loop takes up what is left when subgroups are wider than
// the grid was computed for. Preceded by w4_dot.wgsl, w4_store.wgsl and w4_team.wgsl or w4_alone.wgsl.
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
override UNROLL: u32 = 2;
override ROWS: u32 = 2;
override SPLIT: u32 = 1; // a power of two; a workgroup with fewer subgroups splits less
override LANES: u32 = 0; // of a subgroup (WORKGROUP if that is less), where the device has one size only; else 0
override ROUNDS: u32 = 0; // with LANES: whole rounds of a team's lanes in K_pieces
override REST: u32 = 0; // with LANES: what is behind them, one of the following
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;

const no_rest = 0u;
const rest_of_words = 1u; // one a lane at most
const rest_of_pieces = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> q: array<vec4u>; // [T, K'/16]
@group(0) @binding(3) var<storage, read> qmeta: array<vec2u>; // [T]
@group(0) @binding(4) var<storage, read> weight: array<vec4u>; // [rows, K'/32]
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [N]
@group(0) @binding(6) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [T, N]

/// Where a lane's share lies.
struct Share {
  activations: u32, // first piece of the token in q, counted in pairs
  upper: u32, // first piece of each row
  lower: u32,
  lane: u32, // of the team
  lanes: u32,
}

/// Both sums and one piece of both rows. With one row, `lower` is the piece of the upper row and its sum means nothing.
fn add_piece(acc: vec2i, upper: vec4u, lower: vec4u, at: u32) -> vec2i {
  let first = q[2u * at];
  let second = q[2u * at + 1u];
  if (ROWS == 1u) {
    return vec2i(add_dot32(acc.x, upper, first, second), 0);
  }
  return vec2i(add_dot32(acc.x, upper, first, second), add_dot32(acc.y, lower, first, second));
}

fn lower_piece(upper: vec4u, at: u32) -> vec4u {
  if (ROWS == 1u) {
    return upper;
  }
  return weight[at];
}

/// One lane's share of both rows: whole rounds of pieces.
fn dot_rounds(share: Share, rounds: u32) -> vec2i {
  var acc = vec2i();
  var round = 0u;
  for (; round + UNROLL <= rounds; round += UNROLL) {
    let at = round * share.lanes + share.lane;
    let a = weight[share.upper + at];
    let a_below = lower_piece(a, share.lower + at);
    var b = a;
    var b_below = a_below;
    var c = a;
    var c_below = a_below;
    var d = a;
    var d_below = a_below;
    if (UNROLL > 1u) {
      b = weight[share.upper + at + share.lanes];
      b_below = lower_piece(b, share.lower + at + share.lanes);
    }
    if (UNROLL > 2u) {
      c = weight[share.upper + at + 2u * share.lanes];
      c_below = lower_piece(c, share.lower + at + 2u * share.lanes);
      d = weight[share.upper + at + 3u * share.lanes];
      d_below = lower_piece(d, share.lower + at + 3u * share.lanes);
    }
    acc = add_piece(acc, a, a_below, share.activations + at);
    if (UNROLL > 1u) {
      acc = add_piece(acc, b, b_below, share.activations + at + share.lanes);
    }
    if (UNROLL > 2u) {
      acc = add_piece(acc, c, c_below, share.activations + at + 2u * share.lanes);
      acc = add_piece(acc, d, d_below, share.activations + at + 3u * share.lanes);
    }
  }
  for (; round < rounds; round++) {
    let at = round * share.lanes + share.lane;
    let a = weight[share.upper + at];
    acc = add_piece(acc, a, lower_piece(a, share.lower + at), share.activations + at);
  }
  return acc;
}

/// What is behind the whole rounds.
fn rest_kind(rest: u32, lanes: u32) -> u32 {
  if (LANES > 0u) {
    return REST;
  }
  return select(select(rest_of_pieces, rest_of_words, 4u * rest <= lanes), no_rest, rest == 0u);
}

/// One lane's share of both rows.
fn dot_share(share: Share) -> vec2i {
  var rounds = ROUNDS;
  if (LANES == 0u) {
    rounds = params.K_pieces / share.lanes;
  }
  let first_rest = rounds * share.lanes;
  let rest = params.K_pieces - first_rest; // pieces
  let kind = rest_kind(rest, share.lanes);
  if (kind == no_rest) {
    return dot_rounds(share, rounds);
  }
  if (kind == rest_of_words) {
    var upper = 0u;
    var lower = 0u;
    let piece = first_rest + share.lane / 4u;
    let is_there = share.lane < 4u * rest;
    if (is_there) {
      upper = weight[share.upper + piece][share.lane % 4u];
      if (ROWS > 1u) {
        lower = weight[share.lower + piece][share.lane % 4u];
      }
    }
    let acc = dot_rounds(share, rounds);
    if (!is_there) {
      return acc;
    }
    let four = q[2u * (share.activations + piece) + share.lane % 4u / 2u];
    let pair = select(four.xy, four.zw, share.lane % 2u == 1u);
    return acc + vec2i(dot8(upper, pair), dot8(lower, pair));
  }
  var upper: vec4u;
  var lower: vec4u;
  let piece = first_rest + share.lane;
  let is_there = share.lane < rest;
  if (is_there) {
    upper = weight[share.upper + piece];
    lower = lower_piece(upper, share.lower + piece);
  }
  let acc = dot_rounds(share, rounds);
  if (!is_there) {
    return acc;
  }
  return add_piece(acc, upper, lower, share.activations + piece);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32, @builtin(subgroup_size) subgroup_size: u32) {
  let t = group.z;
  if (t >= step.num_tokens) {
    return;
  }
  let token = qmeta[t];
  let lanes = select(LANES, min(subgroup_size, WORKGROUP), LANES == 0u);
  let lane = local % lanes;
  let split = min(SPLIT, WORKGROUP / lanes);
  let team_lanes = split * lanes;
  let rows_per_group = WORKGROUP / team_lanes * ROWS;
  let rows_per_grid = groups.x * groups.y * rows_per_group;
  let group_first = (group.y * groups.x + group.x) * rows_per_group;
  for (var first = group_first; first < params.rows; first += rows_per_grid) {
    let row = first + local / team_lanes * ROWS;
    // The row that this lane stores, if it is one of the team's first.
    let team_lane = local % team_lanes;
    let own_row = min(row + team_lane % ROWS, params.rows - 1u);
    let row_scale = scale[params.row_start + own_row];
    var acc = vec2i();
    if (row < params.rows) {
      let lower = min(row + 1u, params.rows - 1u);
      acc = dot_share(Share(t * params.K_pieces, row * params.K_pieces, lower * params.K_pieces, team_lane, team_lanes));
    }
    var total = vec2i(subgroupAdd(acc.x), 0);
    if (ROWS > 1u) {
      total.y = subgroupAdd(acc.y);
    }
    total = team_total(total, local, lanes, split);
    if (team_lane < ROWS && row + team_lane < params.rows) {
      store_scaled(t, params.row_start + own_row, select(total.x, total.y, team_lane == 1u), token, row_scale);
    }
    if (LANES > 0u) {
      break; // the grid covers the rows
    }
  }
}
