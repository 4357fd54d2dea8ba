// Input of decode_quantize: attention's output, joined here from the pieces that `attention_decode` left, as
// attention_combine does.
//   partials [H, pieces, Dh + 4] f32 (o[Dh], m, l, z, unused), pieces 0 .. position / P  ->  values [H Dh].   Dh a multiple of 4
// Preceded by attention_join.wgsl and attention_join_word.wgsl.

struct Step {
  num_tokens: u32,
  position: u32,
}

override PIECE_KEYS: u32 = 256; // P
override Dh: u32 = 128;

@group(0) @binding(5) var<uniform> step: Step;
@group(0) @binding(6) var<storage, read> partials: array<vec4f>; // [H, pieces, Dh/4 + 1]
@group(0) @binding(7) var<uniform> quantizer: Quantizer;

fn input_word(word: u32, is_there: bool) -> vec4f {
  if (!is_there) {
    return vec4f();
  }
  let words = Dh / 4u;
  let first_row = word / words * params.attention_pieces * (words + 1u);
  return joined_word(first_row, word % words, words, step.position / PIECE_KEYS + 1u);
}
