// Shared by the two norm prologues of `decode_product` (it is put in front of them, behind decode_stage.wgsl).

@group(0) @binding(5) var<storage, read> x: array<vec4f>; // [D], D a multiple of 4

/// Puts the token into workgroup memory, four loads in flight per invocation.
fn stage_token(local: u32) {
  let words = params.K / 4u;
  for (var first = local; first < words; first += 4u * WORKGROUP) {
    var loaded: array<vec4f, 4>;
    for (var i = 0u; i < 4u; i++) {
      loaded[i] = x[min(first + i * WORKGROUP, words - 1u)];
    }
    for (var i = 0u; i < 4u; i++) {
      if (first + i * WORKGROUP < words) {
        stage_word(first + i * WORKGROUP, loaded[i]);
      }
    }
  }
}

/// This invocation's share of the sum of squares, in the norm kernels' order; adding the square of a 0 changes no bit.
fn share_of_squares(local: u32) -> f32 {
  var squares = 0.0;
  if (local < norm_lanes) {
    for (var first = local; first < params.K; first += 4u * norm_lanes) {
      for (var i = 0u; i < 4u; i++) {
        let k = first + i * norm_lanes;
        squares = add_square(squares, select(0.0, staged_element(min(k, params.K - 1u)), k < params.K));
      }
    }
  }
  return squares;
}
