// What an int4 matrix-vector product does with a sum (it is put in front of them, and uses their bindings and flags).

/// The same expression in every int4 product, so that all of them give the same bits. `token`: scale and sum of token t.
fn store_scaled(t: u32, n: u32, acc: i32, token: vec2u, row_scale: f32) {
  let at = t * params.N + n;
  var value = f32(acc - 8 * bitcast<i32>(token.y)) * (row_scale * bitcast<f32>(token.x));
  if (HAS_BIAS) {
    value += bias[n];
  }
  if (ACCUMULATE) {
    value += y[at];
  }
  y[at] = value;
}

fn store(t: u32, n: u32, acc: i32) {
  store_scaled(t, n, acc, qmeta[t], scale[n]);
}
