// Prologue of `decode_product`: RMSNorm with merged static scales, gather and rounding, as rmsnorm_quant_static (Eq. 4-6).
//   x [D] f32, gather [K'] u32, mult [K'] f32  ->  integers of the token; its scale is 1
// What an invocation needs for its first EARLY_WORDS words is loaded before the norm is known.

@group(0) @binding(6) var<storage, read> gather: array<vec4u>; // [K'] index | offset << 20
@group(0) @binding(7) var<storage, read> mult: array<vec4f>; // [K']

override EARLY_WORDS: u32 = 4; // at most most_early; more would be code that fills the instruction cache

const most_early = 5u;

fn quantize_word(word: u32, entry: vec4u, factor: vec4f, r: f32) {
  let at = entry & vec4u(0xFFFFF);
  let offset = vec4f(bitcast<vec4i>(entry) >> vec4u(20));
  let source = vec4f(staged_element(at.x), staged_element(at.y), staged_element(at.z), staged_element(at.w));
  store_word(word, pack_bytes(quantize4(source * factor * r, offset, params.q_max)));
}

struct Token {
  share: StageShare,
  entries: array<vec4u, most_early>,
  factors: array<vec4f, most_early>,
}

fn load_token(local: u32) -> Token {
  let words = 8u * params.K_pieces;
  var token: Token;
  for (var i = 0u; i < EARLY_WORDS; i++) {
    let word = min(local + i * WORKGROUP, words - 1u);
    token.entries[i] = gather[word];
    token.factors[i] = mult[word];
  }
  token.share = load_share(local);
  return token;
}

fn quantize_token(token: Token, local: u32, lane: u32, lanes: u32) -> f32 {
  let words = 8u * params.K_pieces;
  stage_token(token.share, local);
  workgroupBarrier();
  let r = inverse_rms(tree_sum(share_of_squares(local), local, lane, lanes), params.token_length, params.eps);
  for (var i = 0u; i < EARLY_WORDS; i++) {
    if (i * WORKGROUP < words) {
      quantize_word(local + i * WORKGROUP, token.entries[i], token.factors[i], r);
    }
  }
  for (var base = EARLY_WORDS * WORKGROUP; base < words; base += WORKGROUP) {
    let at = min(base + local, words - 1u);
    quantize_word(base + local, gather[at], mult[at], r);
  }
  return 1.0;
}
