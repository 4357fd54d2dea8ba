// Layout of a float16 key-value cache, put in front of the kernels that read one or append to it; kv_int8.wgsl and
// kv_int4.wgsl have the same names. A row is one position of one head: Dh halves, two a word, low half first, padded to 16
// bytes. A "chunk" is 8 elements of a row, a "load" 16 bytes of it.

alias Chunk = vec4u;

const chunks_per_load = 1u;
const scaled = false; // elements are what they are stored as

/// Elements 0 to 3 of a chunk.
fn low_half(chunk: Chunk) -> vec4f {
  return vec4f(unpack2x16float(chunk.x), unpack2x16float(chunk.y));
}

/// Elements 4 to 7.
fn high_half(chunk: Chunk) -> vec4f {
  return vec4f(unpack2x16float(chunk.z), unpack2x16float(chunk.w));
}

fn chunk_of(load: vec4u, i: u32) -> Chunk {
  return load;
}

fn load_of(chunks: array<Chunk, chunks_per_load>) -> vec4u {
  return chunks[0];
}

/// What a row's elements are stored with: nothing here.
struct RowCode {
  bits: u32,
}

fn row_code(lowest_element: f32, largest_element: f32) -> RowCode {
  return RowCode(0u);
}

fn pack_chunk(low: vec4f, high: vec4f, row: RowCode) -> Chunk {
  return vec4u(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}

/// Step and minimum of a row of keys, and of values.
fn key_scale(row: u32) -> vec2f {
  return vec2f(1.0, 0.0);
}

fn value_scale(row: u32) -> vec2f {
  return vec2f(1.0, 0.0);
}
