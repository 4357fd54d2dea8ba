// Prologue of `decode_product`: quantization of the token's floats, as quant_dynamic or quant_static; the floats come from
// input_first and, for the second look by the same invocation, input_again (decode_input or decode_combine, put in front of
// this). Both are told whether the word is there; what they return for one that is not must not exceed the largest value.
//   values [K] f32  ->  integers of the token (0 behind K), its scale (1 when static).   K a multiple of 4
// BATCH words are looked at together, so that their loads are in flight together; no more than an invocation has, because
// every one is code of its own, and the code of a layer's kernels should stay in the instruction cache.

override DYNAMIC: bool = true;

override BATCH: u32 = 6; // words of an invocation, at most most_batch

const most_batch = 6u;

fn quantize_token(local: u32, lane: u32, lanes: u32) -> f32 {
  let words = params.K / 4u;
  var magnitudes = vec4f();
  for (var first = local; first < words; first += BATCH * WORKGROUP) {
    for (var i = 0u; i < BATCH; i++) {
      let word = first + i * WORKGROUP;
      magnitudes = max(magnitudes, abs(input_first(min(word, words - 1u), word < words)));
    }
  }
  var token = DynamicScale(1.0, params.factor);
  if (DYNAMIC) {
    let magnitude = max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w));
    token = dynamic_scale(largest(magnitude, local, lane, lanes), params.factor);
  }
  for (var base = 0u; base < 8u * params.K_pieces; base += BATCH * WORKGROUP) {
    var packed: array<u32, most_batch>;
    for (var i = 0u; i < BATCH; i++) {
      let word = base + i * WORKGROUP + local;
      let value = input_again(min(word, words - 1u), word < words);
      packed[i] = select(0u, pack_bytes(quantize4(value * token.inverse, vec4f(), params.q_max)), word < words);
    }
    for (var i = 0u; i < BATCH; i++) {
      store_word(base + i * WORKGROUP + local, packed[i]);
    }
  }
  return token.scale;
}
