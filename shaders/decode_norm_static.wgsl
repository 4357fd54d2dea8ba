// Prologue of `decode_product`: RMSNorm with merged static scales, gather and rounding, as rmsnorm_quant_static (Eq. 4-6).
//   x [D] f32, gather [K'] u32, mult [K'] f32  ->  integers of the token; its scale is 1
// What an invocation needs for its first two words is loaded before the norm is known.

@group(0) @binding(6) var<storage, read> gather: array<vec4u>; // [K'] index | offset << 20
@group(0) @binding(7) var<storage, read> mult: array<vec4f>; // [K']

fn quantize_word(word: u32, entry: vec4u, factor: vec4f, r: f32) {
  let at = entry & vec4u(0xFFFFF);
  let offset = vec4f(bitcast<vec4i>(entry) >> vec4u(20));
  let source = vec4f(staged_element(at.x), staged_element(at.y), staged_element(at.z), staged_element(at.w));
  store_word(word, pack_bytes(quantize4(source * factor * r, offset, params.q_max)));
}

fn quantize_token(local: u32, lane: u32, lanes: u32) -> f32 {
  let words = 8u * params.K_pieces;
  let near = min(local, words - 1u);
  let far = min(local + WORKGROUP, words - 1u);
  let near_entry = gather[near];
  let near_mult = mult[near];
  let far_entry = gather[far];
  let far_mult = mult[far];
  stage_token(local);
  workgroupBarrier();
  let r = inverse_rms(tree_sum(share_of_squares(local), local, lane, lanes), params.K, params.eps);
  if (local < words) {
    quantize_word(local, near_entry, near_mult, r);
  }
  if (local + WORKGROUP < words) {
    quantize_word(local + WORKGROUP, far_entry, far_mult, r);
  }
  for (var word = local + 2u * WORKGROUP; word < words; word += WORKGROUP) {
    quantize_word(word, gather[word], mult[word], r);
  }
  return 1.0;
}
