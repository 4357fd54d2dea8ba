// Shared by the int4 matrix-vector products (it is put in front of them).
//
// Weight word i of a row holds elements 8i .. 8i + 7: element 8i + j in byte j mod 4, low nibble for j < 4, so that
// w & 0x0F0F0F0F and (w >> 4) & 0x0F0F0F0F meet the activation words 2i and 2i + 1.

const low = 0x0F0F0F0Fu;

/// 32 products: a 16-byte piece of weights with its two 16-byte pieces of activations.
fn dot32(w: vec4u, first: vec4u, second: vec4u) -> i32 {
  return dot4I8Packed(first.x, w.x & low) + dot4I8Packed(first.y, (w.x >> 4u) & low)
    + dot4I8Packed(first.z, w.y & low) + dot4I8Packed(first.w, (w.y >> 4u) & low)
    + dot4I8Packed(second.x, w.z & low) + dot4I8Packed(second.y, (w.z >> 4u) & low)
    + dot4I8Packed(second.z, w.w & low) + dot4I8Packed(second.w, (w.w >> 4u) & low);
}

/// acc + dot32, each dot added to the sum: hardware adds one number to a dot product for nothing.
fn add_dot32(acc: i32, w: vec4u, first: vec4u, second: vec4u) -> i32 {
  let a = dot4I8Packed(first.y, (w.x >> 4u) & low) + (dot4I8Packed(first.x, w.x & low) + acc);
  let b = dot4I8Packed(first.w, (w.y >> 4u) & low) + (dot4I8Packed(first.z, w.y & low) + a);
  let c = dot4I8Packed(second.y, (w.z >> 4u) & low) + (dot4I8Packed(second.x, w.z & low) + b);
  return dot4I8Packed(second.w, (w.w >> 4u) & low) + (dot4I8Packed(second.z, w.w & low) + c);
}

/// 8 products: a word of weights with its two words of activations.
fn dot8(w: u32, pair: vec2u) -> i32 {
  return dot4I8Packed(pair.x, w & low) + dot4I8Packed(pair.y, (w >> 4u) & low);
}
