// Decode's attention with rotation and KV append in front (as rope_append, then attention with SPLIT): the token's query
// is rotated, its key rotated, and key and value stored at `position`; then each piece of keys is attended.
//   out[h, p] = (o[Dh], m, l) of query h over keys p P .. min((p + 1) P, position + 1) - 1,  kv head = h / (H / Hkv)
//
//   qkv [(H + 2 Hkv) Dh] f32 (not rotated), table [context, Dh/2] (cos, sin), key and value cache [Hkv, context, row] as
//   kv_*.wgsl lay it out  ->  partials [H, pieces, Dh + 4] f32 (o[Dh], m, l, z, unused), and the caches' row `position`
//
// One workgroup of LANES = P per (head x, piece, the last of them first: it has the most to do). The workgroup that needs the
// token's own key and value makes them, and reads them back: from the cache where each head has a kv head of its own, from
// workgroup memory where several heads need them (SHARED). Then the first of these heads also writes them to the cache, which no
// workgroup reads there in this dispatch.
// Preceded by rope.wgsl, the cache's layout with its *_own part, attention_join.wgsl, one of attention_maximum.wgsl and
// attention_maximum_sg.wgsl, and attention_piece.wgsl. Preconditions:
// Dh a multiple of 8 and at most LANES, position < context, one token.

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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<f32>; // [(H + 2 Hkv) Dh]
@group(0) @binding(3) var<storage, read> table: array<vec2f>; // [context, Dh/2] (cos, sin)
@group(0) @binding(4) var<storage, read_write> key_cache: array<vec4u>; // [Hkv, context, loads]
@group(0) @binding(5) var<storage, read_write> value_cache: array<Chunk>; // [Hkv, context, chunks]
@group(0) @binding(6) var<storage, read_write> partials: array<f32>; // [H, pieces, Dh + 4]

override SHARED: bool = true; // H > Hkv

const scales_binding = 7u;
const max_chunks = 32u; // Dh <= 256
const extremes_lanes = 16u;
const elements_together = 8u; // of a row's, read before any is looked at

var<workgroup> own_key: array<vec4u, max_chunks / chunks_per_load>;
var<workgroup> own_value: array<Chunk, max_chunks>;
var<workgroup> extremes: array<vec2f, 1u + scale_arrays * 2u * extremes_lanes>; // smallest and largest of key, then value
var<private> own_row: u32; // the token's cache row
var<private> other_row: u32; // and a neighbour, read in its place: no branch around a load, no race with the writer

fn row_loads() -> u32 {
  return (params.Dh + 8u * chunks_per_load - 1u) / (8u * chunks_per_load);
}

fn key_load(row: u32, load: u32) -> vec4u {
  if (!SHARED) {
    return key_cache[row * row_loads() + load];
  }
  let is_own = row == own_row;
  return select(key_cache[select(row, other_row, is_own) * row_loads() + load], own_key[load], is_own);
}

fn value_chunk(row: u32, chunk: u32) -> Chunk {
  if (!SHARED) {
    return value_cache[row * row_loads() * chunks_per_load + chunk];
  }
  let is_own = row == own_row;
  let first = select(row, other_row, is_own) * row_loads() * chunks_per_load;
  return select(value_cache[first + chunk], own_value[chunk], is_own);
}

// Element e of the rotated head that starts at `head`. No branches, so that loads of several elements are in flight together.
fn rotated(head: u32, e: u32) -> f32 {
  let half = params.Dh / 2u;
  let i = select(e - half, e, e < half);
  let low = qkv[head + i];
  let high = qkv[head + i + half];
  let angle = table[step.position * half + i];
  return select(rotated_high(low, high, angle), rotated_low(low, high, angle), e < half);
}

fn load_query(head: u32, lane: u32) {
  if (4u * lane >= params.Dh) {
    query[lane] = vec4f();
    return;
  }
  var four: vec4f;
  for (var e = 0u; e < 4u; e++) {
    four[e] = rotated(head, 4u * lane + e) * params.scale;
  }
  query[lane] = four;
}

// The token's key, rotated, and its value, as floats, into `scratch`: [key LANES, value LANES].
fn stage_own_rows(key_head: u32, lane: u32) {
  if (lane < params.Dh) {
    scratch[lane] = rotated(key_head, lane);
    scratch[LANES + lane] = qkv[key_head + params.Hkv * params.Dh + lane];
  }
}

// Smallest and largest element of both rows, in 16 parts each, for the first 32 lanes.
fn find_extremes(lane: u32) {
  let first = lane / extremes_lanes * LANES;
  var found = vec2f(scratch[first], scratch[first]);
  for (var start = lane % extremes_lanes; start < params.Dh; start += elements_together * extremes_lanes) {
    var elements: array<f32, elements_together>;
    for (var i = 0u; i < elements_together; i++) {
      let e = start + i * extremes_lanes;
      elements[i] = scratch[first + select(start, e, e < params.Dh)];
    }
    for (var i = 0u; i < elements_together; i++) {
      found = vec2f(min(found.x, elements[i]), max(found.y, elements[i]));
    }
  }
  extremes[lane] = found;
}

// The code of the row (0 key, 1 value) whose extremes were found.
fn own_code(which: u32) -> RowCode {
  var found = extremes[which * extremes_lanes * scale_arrays];
  if (scaled) {
    var parts: array<vec2f, extremes_lanes>;
    for (var part = 0u; part < extremes_lanes; part++) {
      parts[part] = extremes[which * extremes_lanes + part];
    }
    for (var part = 1u; part < extremes_lanes; part++) {
      found = vec2f(min(found.x, parts[part].x), max(found.y, parts[part].y));
    }
  }
  return row_code(found.x, found.y);
}

fn own_chunk(which: u32, chunk: u32, row: RowCode) -> Chunk {
  if (8u * chunk >= params.Dh) {
    return Chunk();
  }
  let first = which * LANES + 8u * chunk;
  return pack_chunk(vec4f(scratch[first], scratch[first + 1u], scratch[first + 2u], scratch[first + 3u]),
                    vec4f(scratch[first + 4u], scratch[first + 5u], scratch[first + 6u], scratch[first + 7u]), row);
}

// Lanes 0 .. make a load of the key each, the second half of the lanes a chunk of the value each.
fn keep_own_rows(lane: u32, is_writer: bool) {
  let chunk = lane % (LANES / 2u);
  if (lane < row_loads()) {
    let row = own_code(0u);
    var chunks: array<Chunk, chunks_per_load>;
    for (var i = 0u; i < chunks_per_load; i++) {
      chunks[i] = own_chunk(0u, chunks_per_load * lane + i, row);
    }
    own_key[lane] = load_of(chunks);
    if (is_writer) {
      key_cache[own_row * row_loads() + lane] = load_of(chunks);
    }
    if (lane == 0u) {
      keep_own_key(row, is_writer);
    }
  } else if (lane >= LANES / 2u && chunk < row_loads() * chunks_per_load) {
    let row = own_code(1u);
    let packed = own_chunk(1u, chunk, row);
    own_value[chunk] = packed;
    if (is_writer) {
      value_cache[own_row * row_loads() * chunks_per_load + chunk] = packed;
    }
    if (chunk == 0u) {
      keep_own_value(row, is_writer);
    }
  }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = id.x;
  let keys = step.position + 1u;
  let last_piece = step.position / LANES;
  if (id.z > last_piece) {
    return;
  }
  let piece_index = last_piece - id.z;
  let start = piece_index * LANES;
  let queries_per_key = params.H / params.Hkv;
  let kv = h / queries_per_key;
  let rows = kv * params.context;
  own_row = rows + step.position;
  other_row = select(own_row - 1u, own_row + 1u, step.position == 0u);
  if (lane < LANES / 4u) {
    load_query(h * params.Dh, lane);
  }
  if (keys - start <= LANES) { // holds the own key
    stage_own_rows((params.H + kv) * params.Dh, lane);
    workgroupBarrier();
    if (scaled) {
      if (lane < 2u * extremes_lanes) {
        find_extremes(lane);
      }
      workgroupBarrier();
    }
    keep_own_rows(lane, h % queries_per_key == 0u);
    storageBarrier(); // for where the rows are read back from the cache; attend waits
  }
  let piece = attend(rows + start, min(LANES, keys - start), lane);
  let target_row = (h * params.pieces + piece_index) * (params.Dh + 4u);
  if (lane < params.Dh) {
    partials[target_row + lane] = piece.o;
  }
  if (lane == 0u) {
    partials[target_row + params.Dh] = piece.m;
    partials[target_row + params.Dh + 1u] = piece.l;
    partials[target_row + params.Dh + 2u] = piece.z;
  }
}
