// Joins the pieces that `attention` left with SPLIT, in order (online softmax): with M = max(m, m_p),
//   l = l exp(m - M) + l_p exp(m_p - M),   o = o exp(m - M) + o_p exp(m_p - M),   m = M;   out[t, h] = o / l
//
//   partials [T, H, pieces, pitch] f32 (o[Dh], then m, l at the next multiple of 4), pieces 0 .. (position + t) / P
//   ->  out [T, H Dh] f32
//
// One workgroup of 256 per (head x, token y), lane d owns element d. The expressions are those of `attention`'s own
// loop, with explicit fma, so that both ways give the same bits. Preceded by attention_join.wgsl.

struct Params {
  H: u32,
  Dh: u32,
  pieces: u32,
}

struct Step {
  num_tokens: u32,
  position: u32,
}

override PIECE_KEYS: u32 = 256; // LANES of the kernel that left the partials

const invocations = 256u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> partials: array<f32>; // [T, H, pieces, pitch]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [T, H Dh]

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = id.y;
  if (t >= step.num_tokens || lane >= params.Dh) {
    return;
  }
  let head = t * params.H + id.x;
  let elements = (params.Dh + 3u) / 4u * 4u;
  let count = (step.position + t) / PIECE_KEYS + 1u;
  var m = lowest;
  var l = 0.0;
  var o = 0.0;
  for (var p = 0u; p < count; p++) {
    let row = (head * params.pieces + p) * (elements + 4u);
    let factors = join_factors(m, partials[row + elements]);
    l = fma(l, factors.so_far, partials[row + elements + 1u] * factors.piece);
    o = fma(o, factors.so_far, partials[row + lane] * factors.piece);
    m = factors.m;
  }
  out[head * params.Dh + lane] = o / l;
}
