// Rotary position embedding and KV append as rope_append.wgsl, the same bits, for head sizes that 8 divides: four pairs an
// invocation, so that all that is read or written is 8 or 16 bytes long.
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (rows q | k | v), table [context, Dh/2] (cos, sin) f32
//   ->  qkv (q only), key_cache and value_cache [Hkv, context, Dh/2] u32, halves 2i (low) and 2i + 1
//
// Invocation i of a head's Dh/8 owns elements 4i .. 4i + 3 and their partners Dh/2 further on; those of all heads of all
// tokens form one flat range over a grid folded into x and y. Preceded by rope.wgsl. Precondition: Dh a multiple of 8.

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

override WORKGROUP: u32 = 64;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> table: array<vec4f>; // [context, Dh/4] (cos, sin, cos, sin)
@group(0) @binding(3) var<storage, read_write> qkv: array<vec4f>; // [T, (H + 2 Hkv) Dh/4]
@group(0) @binding(4) var<storage, read_write> key_cache: array<vec2u>; // [Hkv, context, Dh/4]
@group(0) @binding(5) var<storage, read_write> value_cache: array<vec2u>; // [Hkv, context, Dh/4]

struct Pairs {
  low: vec4f,
  high: vec4f,
}

// `first` holds the angles of pairs 0 and 1, `second` those of 2 and 3.
fn rotated(pairs: Pairs, first: vec4f, second: vec4f) -> Pairs {
  let low = pairs.low;
  let high = pairs.high;
  return Pairs(
    vec4f(rotated_low(low.x, high.x, first.xy), rotated_low(low.y, high.y, first.zw),
          rotated_low(low.z, high.z, second.xy), rotated_low(low.w, high.w, second.zw)),
    vec4f(rotated_high(low.x, high.x, first.xy), rotated_high(low.y, high.y, first.zw),
          rotated_high(low.z, high.z, second.xy), rotated_high(low.w, high.w, second.zw)));
}

fn halves(values: vec4f) -> vec2u {
  return vec2u(pack2x16float(values.xy), pack2x16float(values.zw));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let half = params.Dh / 8u; // vec4f of half a head, and invocations of one
  let heads = params.H + 2u * params.Hkv;
  let unit = (group.y * groups.x + group.x) * WORKGROUP + lane;
  let row = unit / half; // q heads, then k heads, then v heads, of each token
  let t = row / heads;
  let position = step.position + t;
  if (t >= step.num_tokens || position >= params.context) {
    return;
  }
  let i = unit % half;
  let h = row % heads;
  let at = 2u * half * row + i;
  var pairs = Pairs(qkv[at], qkv[at + half]);
  if (h < params.H + params.Hkv) {
    let angles = 2u * (half * position + i);
    pairs = rotated(pairs, table[angles], table[angles + 1u]);
  }
  if (h < params.H) {
    qkv[at] = pairs.low;
    qkv[at + half] = pairs.high;
    return;
  }
  let stored = ((h - params.H) % params.Hkv * params.context + position) * 2u * half + i;
  if (h < params.H + params.Hkv) {
    key_cache[stored] = halves(pairs.low);
    key_cache[stored + half] = halves(pairs.high);
  } else {
    value_cache[stored] = halves(pairs.low);
    value_cache[stored + half] = halves(pairs.high);
  }
}
