// Next to no work: counter += 1. What a dispatch that waits for the one before it costs.

@group(0) @binding(0) var<storage, read_write> counter: array<u32>;

@compute @workgroup_size(1)
fn main() {
  counter[0] += 1u;
}
