// 4-bit levels of a weight grid (it is put in front of the products that read them).
//
// Four words hold 32 levels u: element 8i + j is in word i, byte j mod 4, low nibble for j < 4. The functions give 8 u for
// four consecutive elements in four byte lanes, at most 120.

/// Words of 32 elements.
const piece_words = 4u;

struct Piece {
  nibbles: vec4u,
}

fn load_piece(at: u32) -> Piece {
  return Piece(vec4u(weight[at], weight[at + 1u], weight[at + 2u], weight[at + 3u]));
}

const level_bits = 0x78787878u;

/// Elements 0 .. 15 of a piece.
fn first_half(p: Piece) -> vec4u {
  let n = p.nibbles;
  return vec4u(n.x << 3u, n.x >> 1u, n.y << 3u, n.y >> 1u) & vec4u(level_bits);
}

/// Elements 16 .. 31 of a piece.
fn second_half(p: Piece) -> vec4u {
  let n = p.nibbles;
  return vec4u(n.z << 3u, n.z >> 1u, n.w << 3u, n.w >> 1u) & vec4u(level_bits);
}
