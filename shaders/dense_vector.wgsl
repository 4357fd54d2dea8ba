// Shared by the dense products for few tokens (it is put in front of them, behind dense_frame.wgsl). They are bound by memory,
// so built around 16-byte loads of the weight: a "quad" is 8 halves, 4 floats or 16 bytes.

override SINGLE_ROW: bool = false; // row 0 of x only, whatever num_tokens says

@group(0) @binding(3) var<storage, read> weight: array<vec4u>; // [rows, quads]

// Elements 4i .. 4i + 3 of a token, 0 beyond K.
fn x_four(token: u32, i: u32) -> vec4f {
  if (K_ALIGN == 1u) {
    let k = 4u * i;
    return vec4f(x_element(token, k), x_element(token, k + 1u), x_element(token, k + 2u), x_element(token, k + 3u));
  }
  if (K_ALIGN == 4u && 4u * i >= params.K) {
    return vec4f();
  }
  return x[token * (params.K / 4u) + i];
}

// A quad of bytes with its 16 elements of x.
fn dot_bytes(quad: vec4u, x0: vec4f, x1: vec4f, x2: vec4f, x3: vec4f) -> f32 {
  return (dot(bytes_of(quad.x), x0) + dot(bytes_of(quad.y), x1)) + (dot(bytes_of(quad.z), x2) + dot(bytes_of(quad.w), x3));
}

// Quad i of a weight row with its elements of x.
fn dot_quad(quad: vec4u, token: u32, i: u32) -> f32 {
  if (ELEMENT_BYTES == 4u) {
    return dot(bitcast<vec4f>(quad), x_four(token, i));
  }
  if (ELEMENT_BYTES == 2u) {
    let low = vec4f(unpack2x16float(quad.x), unpack2x16float(quad.y));
    let high = vec4f(unpack2x16float(quad.z), unpack2x16float(quad.w));
    return dot(low, x_four(token, 2u * i)) + dot(high, x_four(token, 2u * i + 1u));
  }
  let at = 4u * i;
  return dot_bytes(quad, x_four(token, at), x_four(token, at + 1u), x_four(token, at + 2u), x_four(token, at + 3u));
}

// One lane's share of a row's sum: quads lane, lane + lanes, ..., four independent ones in flight, which go to four accumulators.
fn partial_sum(row: u32, token: u32, lane: u32, lanes: u32) -> f32 {
  let base = row * params.quads;
  var acc = vec4f();
  var i = lane;
  for (; i + 3u * lanes < params.quads; i += 4u * lanes) {
    let quad0 = weight[base + i];
    let quad1 = weight[base + i + lanes];
    let quad2 = weight[base + i + 2u * lanes];
    let quad3 = weight[base + i + 3u * lanes];
    acc += vec4f(dot_quad(quad0, token, i), dot_quad(quad1, token, i + lanes),
                 dot_quad(quad2, token, i + 2u * lanes), dot_quad(quad3, token, i + 3u * lanes));
  }
  for (; i < params.quads; i += lanes) {
    acc.x += dot_quad(weight[base + i], token, i);
  }
  return (acc.x + acc.y) + (acc.z + acc.w);
}
