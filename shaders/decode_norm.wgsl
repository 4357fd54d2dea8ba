// Shared by the two norm prologues of `decode_product` (it is put in front of them, behind decode_stage.wgsl).

override STAGE_LOADS: u32 = 4; // words of the token that an invocation loads at once, at most most_loads

const most_loads = 4u;

@group(0) @binding(5) var<storage, read> x: array<vec4f>; // [K], a multiple of 4

struct StageShare {
  words: array<vec4f, most_loads>,
}

/// The first words of the token that this invocation puts into workgroup memory, all on their way together.
fn load_share(local: u32) -> StageShare {
  var loaded: StageShare;
  for (var i = 0u; i < STAGE_LOADS; i++) {
    loaded.words[i] = x[min(local + i * WORKGROUP, K / 4u - 1u)];
  }
  return loaded;
}

/// Puts the token into workgroup memory.
fn stage_token(share: StageShare, local: u32) {
  for (var i = 0u; i < STAGE_LOADS; i++) {
    let word = local + i * WORKGROUP;
    if (word < K / 4u) {
      stage_word(word, share.words[i]);
    }
  }
  for (var word = local + STAGE_LOADS * WORKGROUP; word < K / 4u; word += WORKGROUP) {
    stage_word(word, x[word]);
  }
}

/// This invocation's share of the sum of squares, in the norm kernels' order; adding the square of a 0 changes no bit.
fn share_of_squares(local: u32) -> f32 {
  var squares = 0.0;
  if (local < norm_lanes) {
    for (var first = 0u; first < K; first += norm_lanes) {
      let k = first + local;
      if (first + norm_lanes <= K) {
        squares = add_square(squares, staged_element(k));
      } else {
        squares = add_square(squares, select(0.0, staged_element(min(k, K - 1u)), k < K));
      }
    }
  }
  return squares;
}
