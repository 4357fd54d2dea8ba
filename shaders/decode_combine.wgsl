// Input of decode_quantize: attention's output, joined here from the pieces that `attention_decode` left, as
// attention_combine does. Joined values wait in workgroup memory for the second look.
//   partials [H, pieces, Dh + 4] f32 (o[Dh], m, l, two unused), pieces 0 .. position / P  ->  values [H Dh].   Dh a multiple of 4
// Preceded by attention_join.wgsl and decode_stage.wgsl.

struct Step {
  num_tokens: u32,
  position: u32,
}

override PIECE_KEYS: u32 = 256; // P

@group(0) @binding(5) var<uniform> step: Step;
@group(0) @binding(6) var<storage, read> partials: array<vec4f>; // [H, pieces, Dh/4 + 1]

const parts_ahead = 8u; // pieces whose loads are in flight together

fn joined_word(word: u32) -> vec4f {
  let head_words = params.Dh / 4u;
  let first_row = word / head_words * params.attention_pieces * (head_words + 1u);
  let count = step.position / PIECE_KEYS + 1u;
  var m = lowest;
  var l = 0.0;
  var o = vec4f();
  for (var first = 0u; first < count; first += parts_ahead) {
    var elements: array<vec4f, parts_ahead>;
    var sums: array<vec4f, parts_ahead>; // m, l
    for (var i = 0u; i < parts_ahead; i++) {
      let row = first_row + min(first + i, count - 1u) * (head_words + 1u);
      elements[i] = partials[row + word % head_words];
      sums[i] = partials[row + head_words];
    }
    for (var i = 0u; i < parts_ahead; i++) {
      if (first + i < count) {
        let factors = join_factors(m, sums[i].x);
        l = fma(l, factors.so_far, sums[i].y * factors.piece);
        o = fma(o, vec4f(factors.so_far), elements[i] * factors.piece);
        m = factors.m;
      }
    }
  }
  return o / l;
}

fn input_first(word: u32, is_there: bool) -> vec4f {
  if (!is_there) {
    return vec4f();
  }
  let value = joined_word(word);
  stage_word(word, value);
  return value;
}

fn input_again(word: u32, is_there: bool) -> vec4f {
  if (!is_there) {
    return vec4f();
  }
  return staged_word(word);
}
