// Sums of squares of `count` floats, one a workgroup: sums[g] = sum of x[i]^2 over its share.
//
//   x [count] f32  ->  sums [workgroups] f32
//
// Workgroup g takes elements WORKGROUP * (g + r * workgroups) + lane for r = 0, 1, ...

struct Params {
  count: u32,
}

override WORKGROUP: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

var<workgroup> lanes: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = group.x * WORKGROUP + lane; i < params.count; i += groups.x * WORKGROUP) {
    sum = fma(x[i], x[i], sum);
  }
  lanes[lane] = sum;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      lanes[lane] += lanes[lane + width];
    }
  }
  if (lane == 0u) {
    sums[group.x] = lanes[0];
  }
}
