// The best of a row's three trials, its fitted scale, and its codes as signed bytes in the columns' own order.
// A trial at scale s with loss L, R and S (gptq_round_block.wgsl) has at the fitted scale s + R / S the loss L - R^2 / S.
//
//   scale [rows], sums [3 rows] of vec4f, q [3 rows, K], place [K] (a column's number in rounding order)
//   ->  fitted [rows] f32, codes [rows, K/4] u32 (K a multiple of 4)
//
// One invocation per word of codes, in one flat range over a grid folded into x and y.

struct Params {
  rows: u32,
  K: u32,
  trial0: f32,
  trial1: f32,
  trial2: f32,
}

override WORKGROUP: u32 = 64;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [rows]
@group(0) @binding(2) var<storage, read> sums: array<vec4f>; // [3 rows]
@group(0) @binding(3) var<storage, read> q: array<f32>; // [3 rows, K]
@group(0) @binding(4) var<storage, read> place: array<u32>; // [K]
@group(0) @binding(5) var<storage, read_write> fitted: array<f32>; // [rows]
@group(0) @binding(6) var<storage, read_write> codes: array<u32>; // [rows, K/4]

// Fitted scale and its loss; the trial's own where codes are all 0 or point the wrong way.
fn fit(scale: f32, sum: vec4f) -> vec2f {
  if (sum.z > 0.0 && sum.y + scale * sum.z > 0.0) {
    return vec2f(scale + sum.y / sum.z, sum.x - sum.y * sum.y / sum.z);
  }
  return vec2f(scale, sum.x);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WORKGROUP + lane;
  let words = params.K / 4u;
  if (i >= params.rows * words) {
    return;
  }
  let row = i / words;
  let own = scales[row];
  var best = fit(own * params.trial0, sums[row]);
  var trial = 0u;
  let second = fit(own * params.trial1, sums[params.rows + row]);
  if (second.y < best.y) {
    best = second;
    trial = 1u;
  }
  let third = fit(own * params.trial2, sums[2u * params.rows + row]);
  if (third.y < best.y) {
    best = third;
    trial = 2u;
  }
  if (i % words == 0u) {
    fitted[row] = best.x;
  }
  let start = (trial * params.rows + row) * params.K;
  var word = 0u;
  for (var j = 0u; j < 4u; j++) {
    let code = i32(q[start + place[4u * (i % words) + j]]);
    word |= (u32(code) & 255u) << (8u * j);
  }
  codes[i] = word;
}
