// Rotary position embedding and append to a quantized key-value cache: what rope_append does for halves, row by row, because
// the elements of a row share a step and a minimum (kv_scaled.wgsl).
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (rows q | k | v), table [context, Dh/2] (cos, sin) f32
//   ->  qkv (q only), key and value cache [Hkv, context, row] codes, scales [2, Hkv, context]
//
// One workgroup of 64 per (head, token), heads (q, then k, then v) in x and tokens in y. Preceded by rope.wgsl, the
// cache's layout, kv_scaled.wgsl and kv_scales_append.wgsl. Precondition: Dh even and at most 256.

struct Params {
  H: u32,
  Hkv: u32,
  Dh: u32,
  context: u32,
}

struct Step {
  num_tokens: u32,
  position: u32,
}

const lanes = 64u;
const max_elements = 256u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> table: array<vec2f>; // [context, Dh/2] (cos, sin)
@group(0) @binding(3) var<storage, read_write> qkv: array<f32>; // [T, (H + 2 Hkv) Dh]
@group(0) @binding(4) var<storage, read_write> key_cache: array<Chunk>; // [Hkv, context, chunks]
@group(0) @binding(5) var<storage, read_write> value_cache: array<Chunk>; // [Hkv, context, chunks]

var<workgroup> elements: array<f32, max_elements>; // of the row
var<workgroup> extremes: array<vec2f, lanes>;

// Pairs of a head that is rotated or, for a value, copied into `elements`; queries go back into qkv.
fn load_row(head: u32, position: u32, h: u32, lane: u32) {
  let half = params.Dh / 2u;
  for (var i = lane; i < half; i += lanes) {
    var low = qkv[head + i];
    var high = qkv[head + i + half];
    if (h < params.H + params.Hkv) {
      let angle = table[position * half + i];
      let turned = rotated_low(low, high, angle);
      high = rotated_high(low, high, angle);
      low = turned;
    }
    if (h < params.H) {
      qkv[head + i] = low;
      qkv[head + i + half] = high;
    }
    elements[i] = low;
    elements[i + half] = high;
  }
}

// Behind Dh the row's minimum, whose code is 0.
fn element(e: u32, code: RowCode) -> f32 {
  return select(code.minimum, elements[min(e, max_elements - 1u)], e < params.Dh);
}

@compute @workgroup_size(lanes)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = id.x;
  let t = id.y;
  let position = step.position + t;
  if (t >= step.num_tokens || position >= params.context) {
    return;
  }
  load_row((t * (params.H + 2u * params.Hkv) + h) * params.Dh, position, h, lane);
  if (h < params.H) {
    return;
  }
  workgroupBarrier();
  var found = vec2f(elements[0], elements[0]);
  for (var e = lane; e < params.Dh; e += lanes) {
    found = vec2f(min(found.x, elements[e]), max(found.y, elements[e]));
  }
  extremes[lane] = found;
  workgroupBarrier();
  for (var other = 0u; other < lanes; other++) {
    found = vec2f(min(found.x, extremes[other].x), max(found.y, extremes[other].y));
  }
  let code = row_code(found.x, found.y);
  let row_chunks = (params.Dh + 8u * chunks_per_load - 1u) / (8u * chunks_per_load) * chunks_per_load;
  let row = (h - params.H) % params.Hkv * params.context + position;
  let is_key = h < params.H + params.Hkv;
  if (lane < row_chunks) {
    let e = 8u * lane;
    let low = vec4f(element(e, code), element(e + 1u, code), element(e + 2u, code), element(e + 3u, code));
    let high = vec4f(element(e + 4u, code), element(e + 5u, code), element(e + 6u, code), element(e + 7u, code));
    if (is_key) {
      key_cache[row * row_chunks + lane] = pack_chunk(low, high, code);
    } else {
      value_cache[row * row_chunks + lane] = pack_chunk(low, high, code);
    }
  }
  if (lane == 0u) {
    keep_code(select(params.Hkv * params.context, 0u, is_key) + row, code);
  }
}
