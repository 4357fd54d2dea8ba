// Columns gathered, scaled and, with ROUND, made integers:
//   v = x[t, gather[j]] * scale[j], or x[t, gather[j]] / scale[j] with DIVIDE; 0 where scale[j] is 0
//   y[t, j] = v, v + offset[j] with SHIFTED (zero points), or clamp(round(v) + offset[j], low, high) with ROUND
// With DIFFERENCE y[t, j] = x[t, gather[j]] - scale[j] * (that integer): what rounding loses.
//
//   x [T, K] f32, gather [K'] u32, scale and offset [K'] f32  ->  y [T, K'] f32
//
// The merged norm's quantizer (Eq. 4 and 6 of MergeQuant: gather, gamma / s, offset), static quantizers, migrated columns and
// padding. One invocation per element, in one flat range over a grid folded into x and y.

struct Params {
  T: u32,
  K: u32,
  width: u32, // K'
  low: f32,
  high: f32,
}

override ROUND: bool = false;
override DIVIDE: bool = false;
override DIFFERENCE: bool = false;
override SHIFTED: bool = false;
override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [T, K]
@group(0) @binding(2) var<storage, read> gather: array<u32>; // [K']
@group(0) @binding(3) var<storage, read> scale: array<f32>; // [K']
@group(0) @binding(4) var<storage, read> offset: array<f32>; // [K']
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, K']

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WORKGROUP + lane;
  if (i >= params.T * params.width) {
    return;
  }
  let j = i % params.width;
  let factor = scale[j];
  let value = x[i / params.width * params.K + gather[j]];
  var result = 0.0;
  if (factor != 0.0) {
    result = select(value * factor, value / factor, DIVIDE);
    result += select(0.0, offset[j], SHIFTED);
    if (ROUND) {
      result = clamp(round(result) + offset[j], params.low, params.high);
    }
  }
  if (DIFFERENCE) {
    result = value - factor * result;
  }
  y[i] = result;
}
