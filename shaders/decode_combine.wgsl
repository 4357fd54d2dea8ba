// Input of decode_quantize: attention's output, joined here from the pieces that `attention_decode` left, as
// attention_combine does. Joined values wait in workgroup memory for the second look.
//   partials [H, pieces, Dh + 2] f32 (o[Dh], m, l), pieces 0 .. position / P  ->  values [H Dh].   Dh a multiple of 4
// Preceded by attention_join.wgsl and decode_stage.wgsl.

struct Step {
  num_tokens: u32,
  position: u32,
}

override PIECE_KEYS: u32 = 256; // P

@group(0) @binding(5) var<uniform> step: Step;
@group(0) @binding(6) var<storage, read> partials: array<f32>; // [H, pieces, Dh + 2]

struct Part {
  m: f32,
  l: f32,
  o: vec4f,
}

fn load_part(row: u32, d: u32) -> Part {
  let o = vec4f(partials[row + d], partials[row + d + 1u], partials[row + d + 2u], partials[row + d + 3u]);
  return Part(partials[row + params.Dh], partials[row + params.Dh + 1u], o);
}

/// Four pieces are loaded together.
fn joined_word(word: u32) -> vec4f {
  let pitch_words = params.Dh + 2u;
  let head = 4u * word / params.Dh * params.attention_pieces * pitch_words;
  let d = 4u * word % params.Dh;
  let count = step.position / PIECE_KEYS + 1u;
  var m = lowest;
  var l = 0.0;
  var o = vec4f();
  for (var first = 0u; first < count; first += 4u) {
    var parts: array<Part, 4>;
    for (var i = 0u; i < 4u; i++) {
      parts[i] = load_part(head + min(first + i, count - 1u) * pitch_words, d);
    }
    for (var i = 0u; i < 4u; i++) {
      if (first + i < count) {
        let factors = join_factors(m, parts[i].m);
        l = fma(l, factors.so_far, parts[i].l * factors.piece);
        o = fma(o, vec4f(factors.so_far), parts[i].o * factors.piece);
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
