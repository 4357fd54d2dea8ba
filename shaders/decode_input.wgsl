// Input of decode_quantize: floats as they lie in a buffer. A word that is not there is read as the last one, without a
// branch, so that loads stay in flight together.

@group(0) @binding(5) var<storage, read> x: array<vec4f>; // [K]
@group(0) @binding(6) var<uniform> quantizer: Quantizer;

fn input_word(word: u32, is_there: bool) -> vec4f {
  return x[word];
}
