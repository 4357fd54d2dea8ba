// Int4 matrix-vector product of one token with its input's quantization in front and what follows it behind, in one
// dispatch (decode):
//   y[n] (+)= f32(sum_k q[k] * w[n,k]) * (scale_n * s) (+ bias_n)                                             (Eq. 5)
//   GATED: rows 2f, 2f + 1 are gate and up:  y[f] = silu(gate) * up
//
//   input of `quantize_token`, weight [rows, K'] offset-binary nibbles, scale, bias [N] f32  ->  y [N] f32, or [N/2]
//   i32 accumulators, exact; the float expressions are those of matvec_w4, silu_mul and the quantizers: same bits.
//
// Every workgroup quantizes the token for itself into workgroup memory (one dispatch less is worth more than that), so
// few, large workgroups that walk many rows each are the fast shape. A subgroup owns one row at a time (GATED: a pair,
// one after the other). Lane l of S owns the 16-byte pieces l, l + S, ... of its row and starts from -8 times the sum of
// the activations it meets, the offset of the nibbles. PIECES loads are in flight per lane, and those of the next chunk
// of PIECES (or of the next row) are issued before this one is used; the first ones before the token is quantized.
//
// Word j of piece p of the token lies at j * pitch + p: lanes of a subgroup read neighbouring words. Piece CAPACITY is 0.
// Preceded by quantize.wgsl, w4_dot.wgsl, silu.wgsl, decode_reduce.wgsl and one of decode_norm_static, decode_norm_dynamic
// and decode_quantize, which bring quantize_token. Preconditions: K' a multiple of 32, at most 32 * CAPACITY;
// WORKGROUP a multiple of 256; GATED: row_start and rows even; invocations form subgroups in the order of their index.

struct Params {
  K_pieces: u32, // K' / 32
  rows: u32,
  row_start: u32,
  N: u32,
  K: u32, // floats of the token
  eps: f32,
  q_max: f32, // 7 or 127
  factor: f32, // dynamic: clip ratio / q_max; static: 1 / step
  Dh: u32, // decode_combine
  attention_pieces: u32,
}

override WORKGROUP: u32 = 256;
override CAPACITY: u32 = 128; // pieces of a token that fit
override PIECES: u32 = 4; // at most max_pieces
override HAS_BIAS: bool = false;
override ACCUMULATE: bool = false;
override GATED: bool = false;

const max_pieces = 8u;
override pitch = CAPACITY + 4u; // neighbouring words of a token fall into distinct banks when they are stored

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight: array<vec4u>; // [rows, K'/32]
@group(0) @binding(2) var<storage, read> scale: array<f32>; // [N]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [N] or [N/2]

var<workgroup> activations: array<u32, 8u * pitch>;

fn store_word(word: u32, packed: u32) {
  activations[word % 8u * pitch + word / 8u] = packed;
}

struct Chunk {
  pieces: array<vec4u, max_pieces>,
}

/// Pieces (chunk * PIECES + j) * lanes + lane of a row. Where there are none, some other piece: its activations are 0. No
/// branches, so that all loads are in flight at once.
fn load_chunk(row: u32, chunk: u32, lane: u32, lanes: u32) -> Chunk {
  var loaded: Chunk;
  let base = min(row, params.rows - 1u) * params.K_pieces;
  for (var j = 0u; j < PIECES; j++) {
    let piece = (chunk * PIECES + j) * lanes + lane;
    loaded.pieces[j] = weight[base + min(piece, params.K_pieces - 1u)];
  }
  return loaded;
}

fn dot_piece(w: vec4u, piece: u32) -> i32 {
  let p = select(CAPACITY, piece, piece < params.K_pieces);
  let first = vec4u(activations[p], activations[pitch + p], activations[2u * pitch + p], activations[3u * pitch + p]);
  let second = vec4u(activations[4u * pitch + p], activations[5u * pitch + p], activations[6u * pitch + p],
                     activations[7u * pitch + p]);
  return dot32(w, first, second);
}

fn dot_chunk(loaded: Chunk, chunk: u32, lane: u32, lanes: u32) -> i32 {
  var acc = 0;
  for (var j = 0u; j < PIECES; j++) {
    acc += dot_piece(loaded.pieces[j], (chunk * PIECES + j) * lanes + lane);
  }
  return acc;
}

/// 8 times the sum of the activations that this lane meets in every row.
fn offset_share(lane: u32, lanes: u32) -> i32 {
  var acc = 0;
  for (var piece = lane; piece < params.K_pieces; piece += lanes) {
    for (var j = 0u; j < 8u; j++) {
      acc += dot4I8Packed(activations[j * pitch + piece], 0x08080808u);
    }
  }
  return acc;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32, @builtin(subgroup_size) subgroup_size: u32) {
  let lanes = min(subgroup_size, WORKGROUP);
  let lane = local % lanes;
  let rows_at_once = select(1u, 2u, GATED);
  let rows_per_turn = WORKGROUP / lanes * rows_at_once;
  let stride = groups.x * rows_per_turn;
  let own = local / lanes * rows_at_once;
  let chunks = (params.K_pieces + PIECES * lanes - 1u) / (PIECES * lanes);

  var ahead = load_chunk(group.x * rows_per_turn + own, 0u, lane, lanes);
  if (local < 8u) {
    activations[local * pitch + CAPACITY] = 0u;
  }
  let token_scale = quantize_token(local, lane, lanes);
  workgroupBarrier();
  let offset = offset_share(lane, lanes);

  for (var base = group.x * rows_per_turn; base < params.rows; base += stride) {
    var gate = 0.0;
    for (var j = 0u; j < rows_at_once; j++) {
      let row = base + own + j;
      let n = params.row_start + min(row, params.rows - 1u);
      let row_scale = scale[n];
      var before = 0.0;
      if (ACCUMULATE) {
        before = y[n];
      }
      var acc = -offset;
      for (var chunk = 0u; chunk < chunks; chunk++) {
        let current = ahead;
        if (chunk + 1u < chunks) {
          ahead = load_chunk(row, chunk + 1u, lane, lanes);
        } else {
          ahead = load_chunk(select(base + own + stride, row + 1u, j + 1u < rows_at_once), 0u, lane, lanes);
        }
        acc += dot_chunk(current, chunk, lane, lanes);
      }
      var value = f32(subgroupAdd(acc)) * (row_scale * token_scale);
      if (HAS_BIAS) {
        value += bias[n];
      }
      if (ACCUMULATE) {
        value += before;
      }
      let is_writer = lane == 0u && row < params.rows;
      if (GATED) {
        if (j == 0u) {
          gate = value;
        } else if (is_writer) {
          y[n / 2u] = silu_gate(gate, value);
        }
      } else if (is_writer) {
        y[n] = value;
      }
    }
  }
}
