// Prologue of `decode_product`: RMSNorm and per-token dynamic quantization, as rmsnorm_quant_dynamic.
//   x, norm_weight [D] f32  ->  integers of the token (0 behind D), its scale
// The weights of an invocation's first EARLY_WORDS words are loaded once, before the token.

// Apart from params, which are the same in all layers.
struct Quantizer {
  factor: f32, // dynamic: clip ratio / q_max; static: 1 / step
}

@group(0) @binding(6) var<storage, read> norm_weight: array<vec4f>; // [D]
@group(0) @binding(7) var<uniform> quantizer: Quantizer;

override EARLY_WORDS: u32 = 4; // at most most_early; more would be code that fills the instruction cache

const most_early = 5u;

fn magnitude_of(word: u32, weight_of: vec4f) -> f32 {
  let magnitudes = abs(staged_word(word) * weight_of);
  return max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w));
}

fn quantize_word(word: u32, weight_of: vec4f, r: f32, inverse: f32) {
  let words = K / 4u;
  let value = staged_word(min(word, words - 1u)) * weight_of;
  let packed = pack_bytes(quantize4(value * r * inverse, vec4f(), params.q_max));
  store_word(word, select(0u, packed, word < words));
}

struct Token {
  share: StageShare,
  weights: array<vec4f, most_early>,
}

fn load_token(local: u32) -> Token {
  var token: Token;
  for (var i = 0u; i < EARLY_WORDS; i++) {
    token.weights[i] = norm_weight[min(local + i * WORKGROUP, K / 4u - 1u)];
  }
  token.share = load_share(local);
  return token;
}

fn quantize_token(token: Token, local: u32, lane: u32, lanes: u32) -> f32 {
  let words = K / 4u;
  stage_token(token.share, local);
  workgroupBarrier();
  var magnitude = 0.0;
  for (var i = 0u; i < EARLY_WORDS; i++) {
    if (local + i * WORKGROUP < words) {
      magnitude = max(magnitude, magnitude_of(local + i * WORKGROUP, token.weights[i]));
    }
  }
  for (var word = local + EARLY_WORDS * WORKGROUP; word < words; word += WORKGROUP) {
    magnitude = max(magnitude, magnitude_of(word, norm_weight[word]));
  }
  let r = inverse_rms(tree_sum(share_of_squares(local), local, lane, lanes), params.token_length, params.eps);
  let scaling = dynamic_scale(largest(magnitude, local, lane, lanes) * r, quantizer.factor);
  for (var i = 0u; i < EARLY_WORDS; i++) {
    if (i * WORKGROUP < 8u * params.K_pieces) {
      quantize_word(local + i * WORKGROUP, token.weights[i], r, scaling.inverse);
    }
  }
  for (var base = EARLY_WORDS * WORKGROUP; base < 8u * params.K_pieces; base += WORKGROUP) {
    quantize_word(base + local, norm_weight[min(base + local, words - 1u)], r, scaling.inverse);
  }
  return scaling.scale;
}
