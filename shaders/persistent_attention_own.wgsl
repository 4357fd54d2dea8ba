// Part of the persistent decode kernel: what all of attention shares, and the token's own query, key and value: rotated, rounded
// to halves, and appended to the caches. A piece is LANES keys of one head, a slot the LANES invocations that work on it.
// Preceded by persistent_crossing.wgsl, persistent_quantize.wgsl (staged) and rope.wgsl. Preconditions: Dh a multiple of 8 and at
// most LANES and 256, LANES a multiple of 16, staged of WORKGROUP / LANES * 8 * value_pitch floats.

override LANES: u32 = 256; // of a slot, and keys of a piece
override value_pitch = LANES + 4u;
// Loads in flight per lane; they change no bit.
override CHUNKS_AHEAD: u32 = 1; // chunks of a key at once, at most 4
override KEYS_AHEAD: u32 = 1; // rows of values at once, at most 8
override slots = WORKGROUP / LANES;

const most_chunks = 32u; // Dh <= 256

var<workgroup> own_key: array<vec4u, slots * most_chunks>;
var<workgroup> own_value: array<vec4u, slots * most_chunks>;
var<workgroup> query: array<vec4f, slots * (LANES / 4u)>; // [Dh] scaled, 0 beyond
var<workgroup> scores: array<f32, WORKGROUP>; // scores, then exp(s - m)
var<workgroup> maxima: array<f32, slots * (LANES / 4u)>; // of subgroups, or 16 of a slot
var<workgroup> group_sums: array<f32, WORKGROUP>;

/// One piece of one head, for the LANES invocations of a slot.
struct Piece {
  slot: u32,
  lane: u32, // of the slot
  head: u32,
  index: u32,
  count: u32, // its keys; 0 when there is no such piece
  first: u32, // 16-byte chunk where its keys start in the caches
  own: u32, // and where the token's own row does
  other: u32, // a neighbour's, read in its place: no branch around a load, no race with the writer
  holds_own: bool,
}

fn value_chunk(piece: Piece, row: u32, c: u32) -> vec4u {
  let is_own = row == piece.own;
  return select(value_cache[select(row, piece.other, is_own) + c], own_value[piece.slot * most_chunks + c], is_own);
}

fn low_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.x), unpack2x16float(chunk.y));
}

fn high_half(chunk: vec4u) -> vec4f {
  return vec4f(unpack2x16float(chunk.z), unpack2x16float(chunk.w));
}

fn eight_halves(values: array<f32, 8>) -> vec4u {
  return vec4u(pack2x16float(vec2f(values[0], values[1])), pack2x16float(vec2f(values[2], values[3])),
               pack2x16float(vec2f(values[4], values[5])), pack2x16float(vec2f(values[6], values[7])));
}

// acc + a . b as one chain.
fn fma_dot(a: vec4f, b: vec4f, acc: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}

/// The floats of the slot's query, rotated and scaled, into its part of `staged`, and where the piece ends with the token's
/// own key and value theirs: [query LANES, key LANES, value LANES].
fn stage_own(piece: Piece, qkv_at: u32) {
  let half = params.Dh / 2u;
  let key_head = params.H + piece.head / (params.H / params.Hkv);
  let floats = piece.slot * 8u * value_pitch;
  for (var i = piece.lane; i < select(half, 3u * half, piece.holds_own); i += LANES) {
    let part = i / half;
    let e = i % half;
    let head = select(select(key_head + params.Hkv, key_head, part == 1u), piece.head, part == 0u);
    var at: array<u32, 8>;
    at[0] = qkv_at + head * params.Dh + e;
    at[1] = at[0] + half;
    let pair = await_few(at, 2u);
    let angle = angles[step.position * half + e];
    let low = select(rotated_low(pair[0], pair[1], angle), pair[0], part == 2u);
    let high = select(rotated_high(pair[0], pair[1], angle), pair[1], part == 2u);
    let scale = select(1.0, params.attention_scale, part == 0u);
    staged[floats + part * LANES + e] = select(low, low * scale, part == 0u);
    staged[floats + part * LANES + e + half] = select(high, high * scale, part == 0u);
  }
}

/// From there into `query`, `own_key` and `own_value`, and into the caches.
fn load_own(piece: Piece) {
  let floats = piece.slot * 8u * value_pitch;
  let quarter = piece.lane / (LANES / 4u);
  let c = piece.lane % (LANES / 4u);
  if (quarter == 0u) {
    let e = floats + 4u * c;
    let four = vec4f(staged[e], staged[e + 1u], staged[e + 2u], staged[e + 3u]);
    query[piece.slot * (LANES / 4u) + c] = select(vec4f(), four, 4u * c < params.Dh);
  } else if (quarter < 3u && piece.holds_own && 8u * c < params.Dh) {
    var elements: array<f32, 8>;
    for (var e = 0u; e < 8u; e++) {
      elements[e] = staged[floats + quarter * LANES + 8u * c + e];
    }
    let words = eight_halves(elements);
    let is_writer = piece.head % (params.H / params.Hkv) == 0u;
    if (quarter == 1u) {
      own_key[piece.slot * most_chunks + c] = words;
      if (is_writer) {
        key_cache[piece.own + c] = words;
      }
    } else {
      own_value[piece.slot * most_chunks + c] = words;
      if (is_writer) {
        value_cache[piece.own + c] = words;
      }
    }
  }
}
