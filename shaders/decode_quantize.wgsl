// Prologue of `decode_product`: quantization of the token's floats, as quant_dynamic or quant_static; the floats come from
// input_word (decode_input or decode_combine, put in front of this), which is told whether the word is there; what it returns
// for one that is not must not exceed the largest value.
//   values [K] f32  ->  integers of the token (0 behind K), its scale (1 when static).   K a multiple of 4
// BATCH words are looked at together, so that their loads are in flight together; no more than an invocation has, because
// every one is code of its own, and the code of a layer's kernels should stay in the instruction cache. Where BATCH is all that
// an invocation has (HELD), it keeps them; otherwise words are asked for again once the largest value is known.

// Apart from params, which are the same in all layers.
struct Quantizer {
  factor: f32, // dynamic: clip ratio / q_max; static: 1 / step
}

override DYNAMIC: bool = true;
override BATCH: u32 = 6; // words of an invocation, at most most_batch
override HELD: bool = false; // BATCH * WORKGROUP words are the whole token

const most_batch = 6u;

struct Token {
  words: array<vec4f, most_batch>,
}

/// The first BATCH words of this invocation.
fn load_token(local: u32) -> Token {
  var token: Token;
  for (var i = 0u; i < BATCH; i++) {
    let word = local + i * WORKGROUP;
    token.words[i] = input_word(min(word, K / 4u - 1u), word < K / 4u);
  }
  return token;
}

fn largest_of(token: Token) -> f32 {
  var magnitudes = vec4f();
  for (var i = 0u; i < BATCH; i++) {
    magnitudes = max(magnitudes, abs(token.words[i]));
  }
  return max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w));
}

/// Stores the integers of words first + i * WORKGROUP.
fn quantize_words(token: Token, first: u32, inverse: f32) {
  for (var i = 0u; i < BATCH; i++) {
    let word = first + i * WORKGROUP;
    let packed = pack_bytes(quantize4(token.words[i] * inverse, vec4f(), params.q_max));
    store_word(word, select(0u, packed, word < K / 4u));
  }
}

fn quantize_token(token: Token, local: u32, lane: u32, lanes: u32) -> f32 {
  var scaling = DynamicScale(1.0, quantizer.factor);
  if (DYNAMIC) {
    var magnitude = largest_of(token);
    if (!HELD) {
      for (var first = local + BATCH * WORKGROUP; first < K / 4u; first += BATCH * WORKGROUP) {
        magnitude = max(magnitude, largest_of(load_token(first)));
      }
    }
    scaling = dynamic_scale(largest(magnitude, local, lane, lanes), quantizer.factor);
  }
  quantize_words(token, local, scaling.inverse);
  if (!HELD) {
    for (var base = BATCH * WORKGROUP; base < 8u * params.K_pieces; base += BATCH * WORKGROUP) {
      quantize_words(load_token(base + local), base + local, scaling.inverse);
    }
  }
  return scaling.scale;
}
