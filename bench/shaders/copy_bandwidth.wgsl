// Copies a buffer, 16 bytes at a time: destination[i] = source[i].
//
// Invocation i copies the vectors i, i + S, i + 2S, ..., S = number of invocations.

struct Params {
  vectors: u32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> destination: array<vec4u>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let stride = groups.x * WORKGROUP;
  for (var i = group.x * WORKGROUP + lane; i < params.vectors; i += stride) {
    destination[i] = source[i];
  }
}
