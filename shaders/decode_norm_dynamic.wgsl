// Prologue of `decode_product`: RMSNorm and per-token dynamic quantization, as rmsnorm_quant_dynamic.
//   x, norm_weight [D] f32  ->  integers of the token (0 behind D), its scale
// The weights of an invocation's first two words are loaded once, before the token.

@group(0) @binding(6) var<storage, read> norm_weight: array<vec4f>; // [D]

fn magnitude_of(word: u32, weight_of: vec4f) -> f32 {
  let magnitudes = abs(staged_word(word) * weight_of);
  return max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w));
}

fn quantize_word(word: u32, weight_of: vec4f, r: f32, inverse: f32) {
  let value = staged_word(word) * weight_of;
  store_word(word, pack_bytes(quantize4(value * r * inverse, vec4f(), params.q_max)));
}

fn quantize_token(local: u32, lane: u32, lanes: u32) -> f32 {
  let words = params.K / 4u;
  let near_weight = norm_weight[min(local, words - 1u)];
  let far_weight = norm_weight[min(local + WORKGROUP, words - 1u)];
  stage_token(local);
  workgroupBarrier();
  var magnitude = 0.0;
  if (local < words) {
    magnitude = magnitude_of(local, near_weight);
  }
  if (local + WORKGROUP < words) {
    magnitude = max(magnitude, magnitude_of(local + WORKGROUP, far_weight));
  }
  for (var word = local + 2u * WORKGROUP; word < words; word += WORKGROUP) {
    magnitude = max(magnitude, magnitude_of(word, norm_weight[word]));
  }
  let r = inverse_rms(tree_sum(share_of_squares(local), local, lane, lanes), params.K, params.eps);
  let token = dynamic_scale(largest(magnitude, local, lane, lanes) * r, params.factor);
  if (local < words) {
    quantize_word(local, near_weight, r, token.inverse);
  }
  if (local + WORKGROUP < words) {
    quantize_word(local + WORKGROUP, far_weight, r, token.inverse);
  }
  for (var word = local + 2u * WORKGROUP; word < words; word += WORKGROUP) {
    quantize_word(word, norm_weight[word], r, token.inverse);
  }
  for (var word = words + local; word < 8u * params.K_pieces; word += WORKGROUP) {
    store_word(word, 0u);
  }
  return token.scale;
}
