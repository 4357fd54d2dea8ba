// Int4 matrix-vector product of one token with its input's quantization in front and what follows it behind, in one
// dispatch (decode):
//   y[n] (+)= f32(sum_k q[k] * w[n,k]) * (scale_n * s) (+ bias_n)                                             (Eq. 5)
//   GATED: rows 2f, 2f + 1 are gate and up:  y[f] = silu(gate) * up
//
//   input of `quantize_token`, weight [rows, K'] offset-binary nibbles, scale, bias [N] f32  ->  y [N] f32, or [N/2]
//   i32 accumulators, exact; the float expressions are those of matvec_w4, silu_mul and the quantizers: same bits.
//
// Every workgroup quantizes the token for itself into workgroup memory (one dispatch less is worth more than that), so
// few, large workgroups that walk many rows each are the fast shape. A subgroup owns two neighbouring rows at a time, so
// that each activation is fetched once for both; pairs of rows are dealt to the workgroups in turn, so that none has more than
// one pair for each of its subgroups more than another. Lane l of S owns the 16-byte pieces l, l + S, ... of its rows as far as
// they are whole rounds of all lanes, and of the rest (the tail) the 4-byte words l, l + S, ..., so that few lanes idle. It
// starts from -8 times the sum of the activations it meets, the offset of the nibbles. PIECES loads per row are in
// flight per lane, and those of the next chunk of PIECES (or of the next rows) are issued before this one is used; the
// first ones before the token is quantized. What a pair of rows needs beside them (its tail, scales, residual) is loaded a
// whole pair ahead where there are registers for it. The numbers of rounds and of the token's floats are constants of the
// pipeline, of which a model has few: loops then need no clamps and masks.
//
// Words 0 .. 3 of piece p of the token lie at activations[p], words 4 .. 7 at activations[CAPACITY + p].
// Preceded by quantize.wgsl, w4_dot.wgsl, silu.wgsl, decode_reduce.wgsl and one of decode_norm_static, decode_norm_dynamic
// and decode_quantize, which bring load_token and quantize_token. Preconditions: K' a multiple of 32, at most 32 * CAPACITY;
// WORKGROUP a multiple of 128, 256 or more;
// TAIL rounds of words cover what is left of K' behind whole rounds of pieces; GATED: row_start and rows even; invocations
// form subgroups in the order of their index.

struct Params {
  K_pieces: u32, // K' / 32
  rows: u32,
  row_start: u32,
  N: u32,
  token_length: u32, // K for float expressions: a compiler may turn division by a constant into something else
  eps: f32,
  q_max: f32, // 7 or 127
  attention_pieces: u32, // decode_combine
}

override WORKGROUP: u32 = 256;
override CAPACITY: u32 = 128; // pieces of a token that fit
override K: u32 = 4; // floats of the token
override LANES: u32 = 0; // of a subgroup, where the device has one size only; else 0
override ROUNDS: u32 = 0; // with LANES: whole rounds of LANES pieces in K_pieces
override PIECES: u32 = 4; // at most max_pieces
override TOKEN_FIRST: bool = true; // the token's loads are issued before the first weights'
override ENDS_AHEAD: bool = true; // what a pair of rows needs beside its rounds is loaded a whole pair ahead
override TAIL: u32 = 4; // at most max_tail
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;
override GATED: bool = false;

const max_pieces = 6u;
const max_tail = 4u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight: array<vec4u>; // [rows, K'/32]
@group(0) @binding(2) var<storage, read> scale: array<f32>; // [N]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [N] or [N/2]

var<workgroup> activations: array<vec4u, 2u * CAPACITY>;

/// Four lanes' words (word, word + 1, ...) together; in uniform control flow. Words behind K' are dropped.
fn store_word(word: u32, packed: u32) {
  let four = vec4u(packed, subgroupShuffleDown(packed, 1u), subgroupShuffleDown(packed, 2u), subgroupShuffleDown(packed, 3u));
  if (word % 4u == 0u && word < 8u * params.K_pieces) {
    activations[word / 4u % 2u * CAPACITY + word / 8u] = four;
  }
}

struct Chunk {
  upper: array<vec4u, max_pieces>,
  lower: array<vec4u, max_pieces>, // of the row below
}

/// Pieces of rounds chunk * PIECES + j of the rows `row` and the one below it, if there are such rows: idle subgroups would
/// otherwise all read the same place at the end. No branches around single loads, so that all are in flight at once: where there
/// may be no such piece, it is the last one, which nothing uses.
fn load_chunk(row: u32, chunk: u32, lane: u32, lanes: u32) -> Chunk {
  var loaded: Chunk;
  if (row < params.rows && !(LANES > 0u && ROUNDS == 0u)) {
    let upper = row * params.K_pieces;
    let lower = min(row + 1u, params.rows - 1u) * params.K_pieces;
    for (var j = 0u; j < PIECES; j++) {
      var piece = (chunk * PIECES + j) * lanes + lane;
      if (LANES == 0u || ROUNDS % PIECES != 0u) {
        piece = min(piece, params.K_pieces - 1u);
      }
      loaded.upper[j] = weight[upper + piece];
      loaded.lower[j] = weight[lower + piece];
    }
  }
  return loaded;
}

/// What a pair of rows needs beside its rounds.
struct Ends {
  tail_upper: array<u32, max_tail>, // words behind the whole rounds, 0 where there are none
  tail_lower: array<u32, max_tail>,
  scales: vec2f,
  before: vec2f, // ACCUMULATE: the residual
}

fn load_ends(row: u32, first_tail: u32, lane: u32, lanes: u32) -> Ends {
  var loaded: Ends;
  if (row < params.rows) {
    let below = min(row + 1u, params.rows - 1u);
    for (var j = 0u; j < TAIL; j++) {
      let word = first_tail + j * lanes + lane;
      let at = min(word, 4u * params.K_pieces - 1u);
      loaded.tail_upper[j] = select(0u, weight[row * params.K_pieces + at / 4u][at % 4u], at == word);
      loaded.tail_lower[j] = select(0u, weight[below * params.K_pieces + at / 4u][at % 4u], at == word);
    }
    loaded.scales = vec2f(scale[params.row_start + row], scale[params.row_start + below]);
    if (ACCUMULATE) {
      loaded.before = vec2f(y[params.row_start + row], y[params.row_start + below]);
    }
  }
  return loaded;
}

/// The two activation words that weight word `word` of a row meets.
fn activation_pair(word: u32) -> vec2u {
  let at = min(word, 4u * params.K_pieces - 1u);
  let four = activations[at / 2u % 2u * CAPACITY + at / 4u];
  return select(four.xy, four.zw, at % 2u == 1u);
}

/// 8 times the sum of the activations that this lane meets in every row.
fn offset_share(rounds: u32, lane: u32, lanes: u32) -> i32 {
  const eights = 0x08080808u;
  var acc = 0;
  for (var round = 0u; round < rounds; round++) {
    let first = activations[round * lanes + lane];
    let second = activations[CAPACITY + round * lanes + lane];
    acc += dot4I8Packed(first.x, eights) + dot4I8Packed(first.y, eights) + dot4I8Packed(first.z, eights)
      + dot4I8Packed(first.w, eights) + dot4I8Packed(second.x, eights) + dot4I8Packed(second.y, eights)
      + dot4I8Packed(second.z, eights) + dot4I8Packed(second.w, eights);
  }
  for (var word = 4u * rounds * lanes + lane; word < 4u * params.K_pieces; word += lanes) {
    let pair = activation_pair(word);
    acc += dot4I8Packed(pair.x, eights) + dot4I8Packed(pair.y, eights);
  }
  return acc;
}

/// A row's value in y's terms, without the residual.
fn scaled(sum: i32, row_scale: f32, token_scale: f32, n: u32) -> f32 {
  var value = f32(sum) * (row_scale * token_scale);
  if (HAS_BIAS) {
    value += bias[n];
  }
  return value;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32, @builtin(subgroup_size) subgroup_size: u32) {
  let lanes = select(LANES, min(subgroup_size, WORKGROUP), LANES == 0u);
  let lane = local % lanes;
  let pairs_per_turn = WORKGROUP / lanes * groups.x;
  let own = 2u * (local / lanes * groups.x + group.x); // first row of this subgroup's first pair
  let rounds = select(ROUNDS, params.K_pieces / lanes, LANES == 0u);
  let chunks = max(1u, (rounds + PIECES - 1u) / PIECES);
  let first_tail = 4u * rounds * lanes;

  var ahead: Chunk;
  var ends: Ends;
  if (!TOKEN_FIRST) {
    ahead = load_chunk(own, 0u, lane, lanes);
  }
  let token = load_token(local);
  if (TOKEN_FIRST) {
    ahead = load_chunk(own, 0u, lane, lanes);
  }
  if (ENDS_AHEAD) {
    ends = load_ends(own, first_tail, lane, lanes);
  }
  let token_scale = quantize_token(token, local, lane, lanes);
  workgroupBarrier();
  let offset = offset_share(rounds, lane, lanes);

  // As many turns for each subgroup of the workgroup as its first one has, so that control flow stays uniform.
  for (var turn = 0u; 2u * group.x + turn < params.rows; turn += 2u * pairs_per_turn) {
    let row = own + turn;
    let n = params.row_start + row;
    var end = ends;
    if (ENDS_AHEAD) {
      ends = load_ends(row + 2u * pairs_per_turn, first_tail, lane, lanes);
    } else {
      end = load_ends(row, first_tail, lane, lanes);
    }
    var acc = -offset;
    var acc_below = -offset;
    for (var chunk = 0u; chunk < chunks; chunk++) {
      let current = ahead;
      let is_last = chunk + 1u == chunks;
      ahead = load_chunk(select(row, row + 2u * pairs_per_turn, is_last), select(chunk + 1u, 0u, is_last), lane, lanes);
      for (var j = 0u; j < PIECES; j++) {
        let round = chunk * PIECES + j;
        if (round < rounds) {
          let first = activations[round * lanes + lane];
          let second = activations[CAPACITY + round * lanes + lane];
          acc = add_dot32(acc, current.upper[j], first, second);
          acc_below = add_dot32(acc_below, current.lower[j], first, second);
        }
      }
    }
    for (var j = 0u; j < TAIL; j++) {
      let pair = activation_pair(first_tail + j * lanes + lane);
      acc += dot8(end.tail_upper[j], pair);
      acc_below += dot8(end.tail_lower[j], pair);
    }
    let value = scaled(subgroupAdd(acc), end.scales.x, token_scale, min(n, params.N - 1u));
    let value_below = scaled(subgroupAdd(acc_below), end.scales.y, token_scale, min(n + 1u, params.N - 1u));
    if (lane == 0u && row < params.rows) {
      if (GATED) {
        y[n / 2u] = silu_gate(value, value_below);
      } else if (ACCUMULATE) {
        y[n] = value + end.before.x;
      } else {
        y[n] = value;
      }
    }
    if (!GATED && lane == 0u && row + 1u < params.rows) {
      if (ACCUMULATE) {
        y[n + 1u] = value_below + end.before.y;
      } else {
        y[n + 1u] = value_below;
      }
    }
  }
}
