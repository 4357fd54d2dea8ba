// Fills a buffer with known words: data[i] = i * 2654435761 modulo 2^32 (the golden ratio's multiplier: every bit changes).
//
// One invocation per word over a grid folded into x and y.

struct Params {
  words: u32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> data: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WORKGROUP + lane;
  if (i < params.words) {
    data[i] = i * 2654435761u;
  }
}
