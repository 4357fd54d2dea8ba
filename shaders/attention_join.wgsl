// Shared by the kernels that join attention's pieces (it is put in front of them): online softmax (Milakov and
// Gimelshein, 2018). One text, so that pieces joined anywhere give the same bits.

const lowest = -3.4e38;

struct JoinFactors {
  m: f32, // joined maximum
  so_far: f32, // factor of the sums so far
  piece: f32, // factor of the sums of the piece
}

fn join_factors(m: f32, piece_m: f32) -> JoinFactors {
  let joined = max(m, piece_m);
  return JoinFactors(joined, exp(m - joined), exp(piece_m - joined));
}

// x as it was rounded. The maximum changes no number, and keeps a compiler from fusing the operation that made x with the next one:
// explicit fma does not, because it may be taken apart again.
fn rounded(x: f32) -> f32 {
  return max(x, lowest);
}

fn rounded_four(x: vec4f) -> vec4f {
  return max(x, vec4f(lowest));
}

// The joined result of sums o, z (0 without codes) and l, see attention_piece.wgsl.
fn joined(o: f32, z: f32, l: f32) -> f32 {
  return select(o + z, o, z == 0.0) / l;
}
