// Rotary position embedding and append to a cache of any kind: what rope_append.wgsl and rope_append_rows.wgsl do, the same
// bits, for head sizes that 32 divides: sixteen elements an invocation, all of them in registers.
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (rows q | k | v), table [context, Dh/2] (cos, sin) f32
//   ->  qkv (q only), key and value cache [Hkv, context, Dh/8] chunks, scales [2, Hkv, context] of codes
//
// Invocation i of a row's Dh/16 owns elements 8i .. 8i + 7 and their partners Dh/2 further on. A workgroup takes as many
// rows as fit, heads (q, then k, then v) of a token before the next token's, over a grid folded into x and y. Of a row with
// codes the invocations tell each other their extremes. Preceded by rope.wgsl, the cache's layout (kv_half.wgsl, or
// kv_int8.wgsl or kv_int4.wgsl and kv_scaled.wgsl) and kv_half_append.wgsl or kv_scales_append.wgsl. Precondition: Dh a
// multiple of 32 and at most 256.

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
@group(0) @binding(4) var<storage, read_write> key_cache: array<Chunk>; // [Hkv, context, Dh/8]
@group(0) @binding(5) var<storage, read_write> value_cache: array<Chunk>; // [Hkv, context, Dh/8]

var<workgroup> extremes: array<vec2f, WORKGROUP>; // (smallest, largest) of an invocation's elements

struct Pairs {
  low: vec4f,
  high: vec4f,
}

// Four pairs, whose angles begin at `angles` of the table.
fn rotated(pairs: Pairs, angles: u32) -> Pairs {
  let first = table[angles];
  let second = table[angles + 1u];
  let low = pairs.low;
  let high = pairs.high;
  return Pairs(
    vec4f(rotated_low(low.x, high.x, first.xy), rotated_low(low.y, high.y, first.zw),
          rotated_low(low.z, high.z, second.xy), rotated_low(low.w, high.w, second.zw)),
    vec4f(rotated_high(low.x, high.x, first.xy), rotated_high(low.y, high.y, first.zw),
          rotated_high(low.z, high.z, second.xy), rotated_high(low.w, high.w, second.zw)));
}

fn least(a: Pairs, b: Pairs) -> f32 {
  let four = min(min(a.low, a.high), min(b.low, b.high));
  return min(min(four.x, four.y), min(four.z, four.w));
}

fn most(a: Pairs, b: Pairs) -> f32 {
  let four = max(max(a.low, a.high), max(b.low, b.high));
  return max(max(four.x, four.y), max(four.z, four.w));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let sharers = params.Dh / 16u; // invocations of a row
  let heads = params.H + 2u * params.Hkv;
  let rows = WORKGROUP / sharers; // of a workgroup
  let row = (group.y * groups.x + group.x) * rows + lane / sharers;
  let i = lane % sharers;
  let t = row / heads;
  let h = row % heads;
  let position = step.position + t;
  let is_there = lane < rows * sharers && t < step.num_tokens && position < params.context;
  let at = row * 4u * sharers + 2u * i; // of the first vec4f
  let half = 2u * sharers; // vec4f of half a row
  var a: Pairs;
  var b: Pairs;
  if (is_there) {
    a = Pairs(qkv[at], qkv[at + half]);
    b = Pairs(qkv[at + 1u], qkv[at + half + 1u]);
    if (h < params.H + params.Hkv) {
      let angles = 4u * (sharers * position + i);
      a = rotated(a, angles);
      b = rotated(b, angles + 2u);
    }
    if (h < params.H) {
      qkv[at] = a.low;
      qkv[at + half] = a.high;
      qkv[at + 1u] = b.low;
      qkv[at + half + 1u] = b.high;
    }
  }
  var found = vec2f(least(a, b), most(a, b));
  if (scaled) {
    extremes[lane] = found;
    workgroupBarrier();
  }
  if (!is_there || h < params.H) {
    return;
  }
  if (scaled) {
    for (var other = lane - i; other < lane - i + sharers; other++) {
      found = vec2f(min(found.x, extremes[other].x), max(found.y, extremes[other].y));
    }
  }
  let code = row_code(found.x, found.y);
  let is_key = h < params.H + params.Hkv;
  let stored = (h - params.H) % params.Hkv * params.context + position; // row of a cache
  let low = pack_chunk(a.low, b.low, code);
  let high = pack_chunk(a.high, b.high, code);
  if (is_key) {
    key_cache[stored * half + i] = low;
    key_cache[stored * half + i + sharers] = high;
  } else {
    value_cache[stored * half + i] = low;
    value_cache[stored * half + i + sharers] = high;
  }
  if (i == 0u) {
    keep_code(select(params.Hkv * params.context, 0u, is_key) + stored, code);
  }
}
