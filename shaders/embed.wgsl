// Embedding gather: x[t, d] = table[ids[t] - row_start, d] for the tokens whose id lies in this block of rows.
//
//   ids [T] u32, table [rows, stride] f16 or f32  ->  x [T, D] f32
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
override F16: bool = true; // the table holds halves, two per word, low half first; else floats

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> ids: array<u32>; // [T]
@group(0) @binding(3) var<storage, read> table: array<u32>; // [rows, stride]
@group(0) @binding(4) var<storage, read_write> x: array<f32>; // [T, D]

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
  if (F16) {
    x[i] = unpack2x16float(table[element / 2u])[element % 2u];
  } else {
    x[i] = bitcast<f32>(table[element]);
  }
}
