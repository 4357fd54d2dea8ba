// Matrix-vector product over integer activations and weights on a grid, LANES invocations per output row:
//   y[t,n] (+)= s_t * sum_g step[n,g] * (sum_k q[t,k] * distance * u[n,k] - zero[n,g] * sum_k q[t,k]) (+ bias_n),  k in group g
//
// i32 within a group, exact; f32 over groups, in their order: the same bits as matmul_grid gives.
//
// A row is cut into slices of at most slice_pieces pieces of 32 elements, no slice in two groups. A workgroup owns
// WORKGROUP / LANES rows; lane l of a row takes slices l, l + LANES, ... and after each round of LANES slices one invocation
// a row adds them up in order. With LANES = 1 an invocation does its row alone.
// The grid's z is the token, x and y fold the rows. Preceded by grid_frame.wgsl and grid3_decode.wgsl or grid4_decode.wgsl.
// Preconditions: K' and the group size are multiples of 32; LANES and WORKGROUP are powers of two, LANES <= WORKGROUP.

override WORKGROUP: u32 = 256;
override LANES: u32 = 32;

/// Sums of slices and the words of their groups, a row longer by one than LANES so that rows start in different banks.
var<workgroup> sums: array<i32, WORKGROUP + WORKGROUP / LANES>;
var<workgroup> words: array<u32, WORKGROUP + WORKGROUP / LANES>;

struct Slice {
  sum: i32,
  word: u32,
}

fn slices_per_group() -> u32 {
  return (params.group_pieces + params.slice_pieces - 1u) / params.slice_pieces;
}

/// The integers of one slice, zero point included; nothing for a slice behind the end of a shorter last group.
fn slice_of(t: u32, row: u32, slice: u32) -> Slice {
  let per_group = slices_per_group();
  let group = slice / per_group;
  let first = group * params.group_pieces + slice % per_group * params.slice_pieces;
  let end = min(min(first + params.slice_pieces, (group + 1u) * params.group_pieces), params.K_pieces);
  let word = grid[(params.row_start + row) * params.groups + group];
  let zero = i32(zero_of(word));
  let ones = vec4u(0x01010101u);
  var sum = 0;
  for (var piece = first; piece < end; piece++) {
    let levels = load_piece((row * params.K_pieces + piece) * piece_words);
    let at = 2u * (t * params.K_pieces + piece);
    let q0 = q[at];
    let q1 = q[at + 1u];
    sum += dot16(q0, first_half(levels)) + dot16(q1, second_half(levels))
      - zero * (dot16(q0, ones) + dot16(q1, ones));
  }
  return Slice(sum, word);
}

/// A row's sum over groups: the same expression in every product over grids.
struct Total {
  group_sum: i32,
  value: f32,
}

fn add_slice(total: Total, slice: Slice, ends_group: bool) -> Total {
  let sum = total.group_sum + slice.sum;
  if (!ends_group) {
    return Total(sum, total.value);
  }
  return Total(0, fma(f32(sum), step_of(slice.word), total.value));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let t = group.z;
  if (t >= step.num_tokens) {
    return;
  }
  let own_rows = WORKGROUP / LANES;
  let first_row = (group.y * groups.x + group.x) * own_rows;
  let per_group = slices_per_group();
  let slices = params.groups * per_group;
  let sums_row = first_row + local; // the row that this invocation adds up, if any
  let adds = local < own_rows && sums_row < params.rows;
  var total = Total(0, 0.0);
  if (LANES == 1u) {
    if (adds) {
      for (var s = 0u; s < slices; s++) {
        total = add_slice(total, slice_of(t, sums_row, s), (s + 1u) % per_group == 0u);
      }
      store(t, params.row_start + sums_row, total.value);
    }
    return;
  }
  let lane = local % LANES;
  let row = first_row + local / LANES;
  let slot = local / LANES * (LANES + 1u) + lane;
  for (var first = 0u; first < slices; first += LANES) {
    var own = Slice(0, 0u);
    if (row < params.rows && first + lane < slices) {
      own = slice_of(t, row, first + lane);
    }
    workgroupBarrier(); // the last round has been added up
    sums[slot] = own.sum;
    words[slot] = own.word;
    workgroupBarrier();
    if (adds) {
      let row_start = local * (LANES + 1u);
      for (var i = 0u; i < min(LANES, slices - first); i++) {
        let slice = Slice(sums[row_start + i], words[row_start + i]);
        total = add_slice(total, slice, (first + i + 1u) % per_group == 0u);
      }
    }
  }
  if (adds) {
    store(t, params.row_start + sums_row, total.value);
  }
}
