// Fills a buffer with reproducible random words, for benchmarks at shapes nobody has to download.
//
//   MODE 0: any bits (packed 4-bit codes, uniform in -8 … 7)
//   MODE 1: pairs of float16, uniform in (center - spread, center + spread)
//   MODE 2: float32, uniform in (center - spread, center + spread)
//
// One invocation per word; word i is hash(seed, i), PCG-RXS-M-XS (O'Neill, 2014).

struct Params {
  words: u32,
  seed: u32,
  center: f32,
  spread: f32,
}

override MODE: u32 = 0;
override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

fn hash(i: u32) -> u32 {
  let state = (i ^ params.seed) * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

// 16 random bits as a number in [-1, 1).
fn centered(bits: u32) -> f32 {
  return params.center + params.spread * (f32(bits & 0xffffu) / 32768.0 - 1.0);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WORKGROUP + lane;
  if (i >= params.words) {
    return;
  }
  let bits = hash(i);
  switch (MODE) {
    case 1u: {
      out[i] = pack2x16float(vec2f(centered(bits), centered(bits >> 16u)));
    }
    case 2u: {
      out[i] = bitcast<u32>(centered(bits));
    }
    default: {
      out[i] = bits;
    }
  }
}
