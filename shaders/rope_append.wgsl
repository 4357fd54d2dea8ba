// Rotary position embedding (Su et al., 2021) and KV append. With (c, s) the cosine and sine of pair i at the token's
// position p = position + t, pairs as Hugging Face's Llama has them (i with i + Dh/2):
//   r[i] = v[i] c - v[i + Dh/2] s,   r[i + Dh/2] = v[i + Dh/2] c + v[i] s
// Queries are rotated in place; rotated keys and plain values are rounded to halves and stored at position p (quantized
// caches: rope_append_rows.wgsl).
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (rows q | k | v), table [context, Dh/2] (cos, sin) f32
//   ->  qkv (q only), key_cache and value_cache [Hkv, context, 4 ceil(Dh/8)] u32, halves 2i (low) and 2i + 1, 0 behind Dh
//
// One invocation per pair of a query head, and per word of a key or value row: 4 ceil(Dh/8) for each head, and those of
// all tokens form one flat range over a grid folded into x and y. Keys are read only, so that no invocation sees a
// neighbour's result. Preceded by rope.wgsl.

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
@group(0) @binding(2) var<storage, read> table: array<vec2f>; // [context, Dh/2] (cos, sin)
@group(0) @binding(3) var<storage, read_write> qkv: array<f32>; // [T, (H + 2 Hkv) Dh]
@group(0) @binding(4) var<storage, read_write> key_cache: array<u32>; // [Hkv, context, row_words]
@group(0) @binding(5) var<storage, read_write> value_cache: array<u32>; // [Hkv, context, row_words]

// Element e of the rotated head that starts at `head`.
fn rotated(head: u32, e: u32, position: u32) -> f32 {
  let half = params.Dh / 2u;
  if (e < half) {
    let angle = table[position * half + e];
    return rotated_low(qkv[head + e], qkv[head + e + half], angle);
  }
  let angle = table[position * half + e - half];
  return rotated_high(qkv[head + e - half], qkv[head + e], angle);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let half = params.Dh / 2u;
  let row_words = (params.Dh + 7u) / 8u * 4u;
  let units = (params.H + 2u * params.Hkv) * row_words;
  let unit = (group.y * groups.x + group.x) * WORKGROUP + lane;
  let t = unit / units;
  let position = step.position + t;
  if (t >= step.num_tokens || position >= params.context) {
    return;
  }
  let h = unit % units / row_words; // q heads, then k heads, then v heads
  let i = unit % row_words;
  let head = (t * (params.H + 2u * params.Hkv) + h) * params.Dh;
  var halves = vec2f(); // behind Dh
  if (h < params.H) {
    if (i < half) {
      let low = rotated(head, i, position);
      let high = rotated(head, i + half, position);
      qkv[head + i] = low;
      qkv[head + i + half] = high;
    }
  } else if (h < params.H + params.Hkv) {
    if (i < half) {
      halves = vec2f(rotated(head, 2u * i, position), rotated(head, 2u * i + 1u, position));
    }
    key_cache[((h - params.H) * params.context + position) * row_words + i] = pack2x16float(halves);
  } else {
    if (i < half) {
      halves = vec2f(qkv[head + 2u * i], qkv[head + 2u * i + 1u]);
    }
    value_cache[((h - params.H - params.Hkv) * params.context + position) * row_words + i] = pack2x16float(halves);
  }
}
