// Embedding gather: x[t, d] = table[ids[t] - row_start, d] for the tokens whose id lies in this block of rows, times
// scale[ids[t]] where the table holds bytes.
//
//   ids [T] u32, table [rows, stride] f16, f32 or int8 with scale [V] f32  ->  x [T, D] f32
//
// One invocation per element; elements of all tokens form one flat range over a grid folded into x and y. Tokens of
// other row blocks are left as they are, so one dispatch per block fills all of x.

struct Params {
  D: u32,
  row_start: u32,
  rows: u32,
  stride: u32, // elements of a stored row, padding included
}

struct Step {
  num_tokens: u32,
}

override WORKGROUP: u32 = 64;
override ELEMENT_BYTES: u32 = 2; // the table holds 4: floats, 2: halves, 1: signed bytes, the lowest of a word first

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> ids: array<u32>; // [T]
@group(0) @binding(3) var<storage, read> table: array<u32>; // [rows, stride]
@group(0) @binding(4) var<storage, read_write> x: array<f32>; // [T, D]
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [V] of bytes

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WORKGROUP + lane;
  if (i >= params.D * step.num_tokens) {
    return;
  }
  let t = i / params.D;
  let row = ids[t] - params.row_start; // an id below the block wraps around and is above `rows`
  if (row >= params.rows) {
    return;
  }
  let element = row * params.stride + i % params.D;
  if (ELEMENT_BYTES == 2u) {
    x[i] = unpack2x16float(table[element / 2u])[element % 2u];
  } else if (ELEMENT_BYTES == 1u) {
    let byte = bitcast<i32>(table[element / 4u] << (24u - 8u * (element % 4u))) >> 24u;
    x[i] = f32(byte) * scale[ids[t]];
  } else {
    x[i] = bitcast<f32>(table[element]);
  }
}
