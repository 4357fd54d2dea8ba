// Prologue of `decode_product`: quantization of the token's floats, as quant_dynamic or quant_static; the floats come from
// input_first and, for the second look by the same invocation, input_again (decode_input or decode_combine, put in front of
// this). Both are told whether the word is there; what they return for one that is not must not exceed the largest value.
//   values [K] f32  ->  integers of the token (0 behind K), its scale (1 when static).   K a multiple of 4
// Four words are looked at together, so that their loads are in flight together.

override DYNAMIC: bool = true;

fn quantize_token(local: u32, lane: u32, lanes: u32) -> f32 {
  let words = params.K / 4u;
  var magnitudes = vec4f();
  for (var first = local; first < words; first += 4u * WORKGROUP) {
    for (var i = 0u; i < 4u; i++) {
      let word = first + i * WORKGROUP;
      magnitudes = max(magnitudes, abs(input_first(min(word, words - 1u), word < words)));
    }
  }
  var token = DynamicScale(1.0, params.factor);
  if (DYNAMIC) {
    let magnitude = max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w));
    token = dynamic_scale(largest(magnitude, local, lane, lanes), params.factor);
  }
  for (var first = local; first < words; first += 4u * WORKGROUP) {
    var packed: array<u32, 4>;
    for (var i = 0u; i < 4u; i++) {
      let word = first + i * WORKGROUP;
      let value = input_again(min(word, words - 1u), word < words);
      packed[i] = pack_bytes(quantize4(value * token.inverse, vec4f(), params.q_max));
    }
    for (var i = 0u; i < 4u; i++) {
      if (first + i * WORKGROUP < words) {
        store_word(first + i * WORKGROUP, packed[i]);
      }
    }
  }
  for (var word = words + local; word < 8u * params.K_pieces; word += WORKGROUP) {
    store_word(word, 0u);
  }
  return token.scale;
}
