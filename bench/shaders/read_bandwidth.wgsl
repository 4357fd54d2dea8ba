// Reads a buffer once and adds up its words: the ceiling of every kernel that streams weights.
//   partial_sums[g] = sum of the words that workgroup g read, modulo 2^32
//
// Invocation i reads the vectors i, i + S, i + 2S, ... of 16 bytes, S = number of invocations; four loads are in flight
// before the first is used. Precondition: `vectors` is a multiple of 4 S.

struct Params {
  vectors: u32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> data: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> partial_sums: array<u32>;

var<workgroup> sums: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let stride = groups.x * WORKGROUP;
  var sum = vec4u(0u);
  for (var i = group.x * WORKGROUP + lane; i < params.vectors; i += 4u * stride) {
    let a = data[i];
    let b = data[i + stride];
    let c = data[i + 2u * stride];
    let d = data[i + 3u * stride];
    sum += (a + b) + (c + d);
  }
  sums[lane] = sum.x + sum.y + sum.z + sum.w;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      sums[lane] += sums[lane + width];
    }
  }
  if (lane == 0u) {
    partial_sums[group.x] = sums[0];
  }
}
