// Dense product without cooperation: y[t, row_start + r] = sum_k x[t, k] * weight[r, k] (+ bias) (+ y), float32 arithmetic.
//
// One invocation per row and TOKENS tokens, no workgroup memory and no barrier: what a software adapter runs fastest, and
// a second reference for the others. Widening a half costs such an adapter more than using it, so each one is used for
// several tokens. A token's elements are added in order into four interleaved sums, whatever T is.
// Preceded by dense_frame.wgsl and dense_vector.wgsl.

override TOKENS: u32 = 4; // 1 (decode) or 4 (prefill); a last group of fewer repeats its last token and stores it once
override fours_per_quad = 4u / ELEMENT_BYTES;
override WORKGROUP: u32 = 64;

// Elements 4j .. 4j + 3 of a quad.
fn four_of(quad: vec4u, j: u32) -> vec4f {
  if (ELEMENT_BYTES == 4u) {
    return bitcast<vec4f>(quad);
  }
  if (ELEMENT_BYTES == 2u) {
    return vec4f(unpack2x16float(quad[2u * j]), unpack2x16float(quad[2u * j + 1u]));
  }
  return bytes_of(quad[j]);
}

fn sum_of(acc: vec4f) -> f32 {
  return (acc.x + acc.y) + (acc.z + acc.w);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * WORKGROUP + index;
  let tokens = select(step.num_tokens, 1u, SINGLE_ROW);
  let t0 = group.z * TOKENS;
  if (row >= params.rows || t0 >= tokens) {
    return;
  }
  let t1 = min(t0 + 1u, tokens - 1u);
  let t2 = min(t0 + 2u, tokens - 1u);
  let t3 = min(t0 + 3u, tokens - 1u);
  let base = row * params.quads;
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var i = 0u; i < params.quads; i++) {
    let quad = weight[base + i];
    for (var j = 0u; j < fours_per_quad; j++) {
      let at = fours_per_quad * i + j;
      let four = four_of(quad, j);
      acc0 = fma(four, x_four(t0, at), acc0);
      if (TOKENS > 1u) {
        acc1 = fma(four, x_four(t1, at), acc1);
        acc2 = fma(four, x_four(t2, at), acc2);
        acc3 = fma(four, x_four(t3, at), acc3);
      }
    }
  }
  store(t0, row, sum_of(acc0));
  if (t1 > t0 && TOKENS > 1u) {
    store(t1, row, sum_of(acc1));
  }
  if (t2 > t1 && TOKENS > 1u) {
    store(t2, row, sum_of(acc2));
  }
  if (t3 > t2 && TOKENS > 1u) {
    store(t3, row, sum_of(acc3));
  }
}
