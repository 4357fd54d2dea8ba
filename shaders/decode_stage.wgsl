// Shared by prologues of `decode_product` that look at the token's floats more than once (it is put in front of them):
// the token in workgroup memory. Element k lies at (k mod 4) * stage_pitch + k / 4, so that neighbouring invocations meet
// different banks both where each takes a word of four elements and where each takes one element.

override STAGED: u32 = 1024; // words that fit, a multiple of 32
override stage_pitch = STAGED + 8u;

var<workgroup> staged: array<f32, 4u * stage_pitch>;

fn stage_word(word: u32, value: vec4f) {
  staged[word] = value.x;
  staged[stage_pitch + word] = value.y;
  staged[2u * stage_pitch + word] = value.z;
  staged[3u * stage_pitch + word] = value.w;
}

fn staged_word(word: u32) -> vec4f {
  return vec4f(staged[word], staged[stage_pitch + word], staged[2u * stage_pitch + word], staged[3u * stage_pitch + word]);
}

fn staged_element(k: u32) -> f32 {
  return staged[k % 4u * stage_pitch + k / 4u];
}
