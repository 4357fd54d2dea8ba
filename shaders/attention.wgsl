// Causal attention with grouped query heads, for prefill and decode:
//   out[t, h] = sum_j softmax_j(q[t, h] . k[j] / sqrt(Dh)) v[j],  j = 0 .. position + t,  kv head = h / (H / Hkv)
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (q rotated), key and value cache [Hkv, context, row] as kv_*.wgsl lay it out
//   ->  out [T, H Dh] f32, or with SPLIT the partials [T, H, pieces, pitch] f32: o[Dh], then at the next multiple of 4 the
//   maximum m, the sum l and z (attention_piece.wgsl); pitch = 4 ceil(Dh / 4) + 4
//
// The keys are cut into pieces of P = LANES. Within a piece: m = max of the scores, l = sum exp(s - m),
// o = sum exp(s - m) v; pieces are joined in order (online softmax: Milakov and Gimelshein, 2018; split over workgroups:
// Flash-Decoding, Dao et al., 2023). One workgroup of LANES per (head x, token y) walks all pieces, or with SPLIT takes
// the piece z and leaves the joining to `attention_combine`, which does the same arithmetic: both give the same bits, for
// any T.
//
// Preceded by the cache's layout, attention_join.wgsl, attention_maximum.wgsl or attention_maximum_sg.wgsl, and
// attention_piece.wgsl. Preconditions: position + T <= context, keys
// and values of this pass already in the cache.

struct Params {
  H: u32,
  Hkv: u32,
  Dh: u32,
  context: u32,
  pieces: u32, // of the whole context: stride of the partials
  scale: f32, // 1 / sqrt(Dh)
}

struct Step {
  num_tokens: u32,
  position: u32,
}

override SPLIT: bool = false;

const scales_binding = 6u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<f32>; // [T, (H + 2 Hkv) Dh]
@group(0) @binding(3) var<storage, read> key_cache: array<vec4u>; // [Hkv, context, loads]
@group(0) @binding(4) var<storage, read> value_cache: array<Chunk>; // [Hkv, context, chunks]
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [T, H, Dh] or partials

fn row_loads() -> u32 {
  return (params.Dh + 8u * chunks_per_load - 1u) / (8u * chunks_per_load);
}

fn key_load(row: u32, load: u32) -> vec4u {
  return key_cache[row * row_loads() + load];
}

fn value_chunk(row: u32, chunk: u32) -> Chunk {
  return value_cache[row * row_loads() * chunks_per_load + chunk];
}

fn load_query(first: u32, lane: u32) {
  if (lane < LANES / 4u) {
    var four = vec4f();
    for (var e = 0u; e < 4u; e++) {
      if (4u * lane + e < params.Dh) {
        four[e] = qkv[first + 4u * lane + e] * params.scale;
      }
    }
    query[lane] = four;
  }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = id.x;
  let t = id.y;
  let keys = step.position + t + 1u;
  if (t >= step.num_tokens || id.z * LANES >= keys) {
    return;
  }
  load_query((t * (params.H + 2u * params.Hkv) + h) * params.Dh, lane);
  let rows = h / (params.H / params.Hkv) * params.context;
  let end = select(keys, min(keys, (id.z + 1u) * LANES), SPLIT);
  var piece: Piece;
  var m = lowest;
  var l = 0.0;
  var z = 0.0;
  var o = 0.0;
  for (var start = id.z * LANES; start < end; start += LANES) {
    piece = attend(rows + start, min(LANES, end - start), lane);
    let factors = join_factors(m, piece.m);
    l = fma(l, factors.so_far, piece.l * factors.piece);
    z = fma(z, factors.so_far, piece.z * factors.piece);
    o = fma(o, factors.so_far, piece.o * factors.piece);
    m = factors.m;
  }
  if (SPLIT) {
    let elements = (params.Dh + 3u) / 4u * 4u;
    let target_row = ((t * params.H + h) * params.pieces + id.z) * (elements + 4u);
    if (lane < params.Dh) {
      out[target_row + lane] = piece.o;
    }
    if (lane == 0u) {
      out[target_row + elements] = piece.m;
      out[target_row + elements + 1u] = piece.l;
      out[target_row + elements + 2u] = piece.z;
    }
  } else if (lane < params.Dh) {
    out[(t * params.H + h) * params.Dh + lane] = joined(o, z, l);
  }
}
