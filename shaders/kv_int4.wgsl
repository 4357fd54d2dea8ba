// Layout of a 4-bit key-value cache (see kv_half.wgsl for the names and kv_scaled.wgsl for what the codes mean). A row is Dh
// nibbles, element 0 in the lowest bits of the first word, padded with codes 0 to 16 bytes.

alias Chunk = u32;

const chunks_per_load = 4u;
const largest_code = 15.0;

fn nibbles_of(word: u32) -> vec4f {
  return vec4f((vec4u(word) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u));
}

fn low_half(chunk: Chunk) -> vec4f {
  return nibbles_of(chunk);
}

fn high_half(chunk: Chunk) -> vec4f {
  return nibbles_of(chunk >> 16u);
}

fn chunk_of(load: vec4u, i: u32) -> Chunk {
  return load[i];
}

fn load_of(chunks: array<Chunk, chunks_per_load>) -> vec4u {
  return vec4u(chunks[0], chunks[1], chunks[2], chunks[3]);
}

fn pack_nibbles(codes: vec4u) -> u32 {
  return codes.x | (codes.y << 4u) | (codes.z << 8u) | (codes.w << 12u);
}

fn pack_chunk(low: vec4f, high: vec4f, row: RowCode) -> Chunk {
  return pack_nibbles(codes_of(low, row)) | (pack_nibbles(codes_of(high, row)) << 16u);
}
