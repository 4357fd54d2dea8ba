// acc + 4 products as one chain (it is put in front of the tiled float products): `dot` and an addition would be five operations.
fn dot4(acc: f32, x: vec4f, y: vec4f) -> f32 {
  return fma(x.w, y.w, fma(x.z, y.z, fma(x.y, y.y, fma(x.x, y.x, acc))));
}
