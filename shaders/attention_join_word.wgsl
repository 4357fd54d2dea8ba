// Shared by the kernels that join pieces from memory (it is put in front of them, behind attention_join.wgsl): four elements of a
// head at once. The kernel brings `partials`.

const parts_ahead = 8u; // pieces whose loads are in flight together

/// Word `word` (elements 4 word ..) of a head whose `count` pieces lie from `first_row`, in vec4, `words` of elements each and
/// one of (m, l, z).
fn joined_word(first_row: u32, word: u32, words: u32, count: u32) -> vec4f {
  var m = lowest;
  var l = 0.0;
  var z = 0.0;
  var o = vec4f();
  for (var first = 0u; first < count; first += parts_ahead) {
    var elements: array<vec4f, parts_ahead>;
    var sums: array<vec4f, parts_ahead>; // m, l, z
    for (var i = 0u; i < parts_ahead; i++) {
      let row = first_row + min(first + i, count - 1u) * (words + 1u);
      elements[i] = partials[row + word];
      sums[i] = partials[row + words];
    }
    for (var i = 0u; i < parts_ahead; i++) {
      if (first + i < count) {
        let factors = join_factors(m, sums[i].x);
        l = fma(l, factors.so_far, sums[i].y * factors.piece);
        z = fma(z, factors.so_far, sums[i].z * factors.piece);
        o = fma(o, vec4f(factors.so_far), elements[i] * factors.piece);
        m = factors.m;
      }
    }
  }
  return vec4f(joined(o.x, z, l), joined(o.y, z, l), joined(o.z, z, l), joined(o.w, z, l));
}
