// 3-bit levels of a weight grid (it is put in front of the products that read them).
//
// Three words hold 32 levels u: element 4i + j has its two low bits in word i / 4 at bit 8j + 2 (i mod 4), its high bit in
// word 2 at bit 8j + i. The functions give 16 u for four consecutive elements in four byte lanes, at most 112.

/// Words of 32 elements.
const piece_words = 3u;

struct Piece {
  low: vec2u,
  high: u32,
}

fn load_piece(at: u32) -> Piece {
  return Piece(vec2u(weight[at], weight[at + 1u]), weight[at + 2u]);
}

const low_bits = 0x30303030u;
const high_bit = 0x40404040u;

/// Elements 0 .. 15 of a piece.
fn first_half(p: Piece) -> vec4u {
  return (vec4u(p.low.x << 4u, p.low.x << 2u, p.low.x, p.low.x >> 2u) & vec4u(low_bits))
    | (vec4u(p.high << 6u, p.high << 5u, p.high << 4u, p.high << 3u) & vec4u(high_bit));
}

/// Elements 16 .. 31 of a piece.
fn second_half(p: Piece) -> vec4u {
  return (vec4u(p.low.y << 4u, p.low.y << 2u, p.low.y, p.low.y >> 2u) & vec4u(low_bits))
    | (vec4u(p.high << 2u, p.high << 1u, p.high, p.high >> 1u) & vec4u(high_bit));
}
