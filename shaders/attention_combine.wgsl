// Joins the pieces that `attention` left with SPLIT, in order (online softmax): with M = max(m, m_p),
//   l = l exp(m - M) + l_p exp(m_p - M), z and o likewise,   m = M;   out[t, h] = (o + z) / l
//
//   partials [T, H, pieces, pitch] f32 (o[Dh], then m, l, z at the next multiple of 4), pieces 0 .. (position + t) / P
//   ->  out [T, H Dh] f32
//
// One invocation per four elements of a head; those of a token in x, tokens in y. The expressions are those of `attention`'s
// own loop, with explicit fma, so that both ways give the same bits. Preceded by attention_join.wgsl and
// attention_join_word.wgsl.

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
override WORKGROUP: u32 = 64;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> partials: array<vec4f>; // [T, H, pieces, pitch / 4]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [T, H Dh]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = id.y;
  let words = (params.Dh + 3u) / 4u;
  let unit = id.x * WORKGROUP + lane;
  if (t >= step.num_tokens || unit >= params.H * words) {
    return;
  }
  let head = t * params.H + unit / words;
  let word = unit % words;
  let four = joined_word(head * params.pieces * (words + 1u), word, words, (step.position + t) / PIECE_KEYS + 1u);
  for (var e = 0u; e < 4u; e++) {
    if (4u * word + e < params.Dh) {
      out[head * params.Dh + 4u * word + e] = four[e];
    }
  }
}
