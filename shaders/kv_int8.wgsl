// Layout of an 8-bit key-value cache (see kv_half.wgsl for the names and kv_scaled.wgsl for what the codes mean). A row is Dh
// bytes, element 0 in the lowest byte of the first word, padded with codes 0 to 16 bytes.

alias Chunk = vec2u;

const chunks_per_load = 2u;
const largest_code = 255.0;

fn bytes_of(word: u32) -> vec4f {
  return vec4f((vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u));
}

fn low_half(chunk: Chunk) -> vec4f {
  return bytes_of(chunk.x);
}

fn high_half(chunk: Chunk) -> vec4f {
  return bytes_of(chunk.y);
}

fn chunk_of(load: vec4u, i: u32) -> Chunk {
  return select(load.xy, load.zw, i == 1u);
}

fn load_of(chunks: array<Chunk, chunks_per_load>) -> vec4u {
  return vec4u(chunks[0], chunks[1]);
}

fn pack_bytes4(codes: vec4u) -> u32 {
  return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u);
}

fn pack_chunk(low: vec4f, high: vec4f, row: RowCode) -> Chunk {
  return vec2u(pack_bytes4(codes_of(low, row)), pack_bytes4(codes_of(high, row)));
}
