// Rotary position embedding in place, of queries and keys that lie side by side; token t is at position t.
//
//   x [T, stride] f32, of which the first heads * Dh columns; table [T, Dh/2] (cos, sin) f32
//
// One invocation per pair of a head, in one flat range over a grid folded into x and y. Preceded by rope.wgsl.

struct Params {
  T: u32,
  stride: u32,
  heads: u32,
  Dh: u32,
}

override WORKGROUP: u32 = 64;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<vec2f>; // [positions, Dh/2]
@group(0) @binding(2) var<storage, read_write> x: array<f32>; // [T, stride]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WORKGROUP + lane;
  let half = params.Dh / 2u;
  let perToken = params.heads * half;
  if (i >= params.T * perToken) {
    return;
  }
  let t = i / perToken;
  let pair = i % half;
  let at = t * params.stride + i % perToken / half * params.Dh + pair;
  let angle = table[t * half + pair];
  let low = x[at];
  let high = x[at + half];
  x[at] = rotated_low(low, high, angle);
  x[at + half] = rotated_high(low, high, angle);
}
