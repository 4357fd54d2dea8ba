// Steps and minima of a quantized cache's rows, for kernels that only read it (behind kv_scaled.wgsl). The kernel brings
// scales_binding.

@group(0) @binding(scales_binding) var<storage, read> scales: array<u32>; // [2 (keys, values), Hkv, context]

fn key_scale(row: u32) -> vec2f {
  return scale_of(scales[row]);
}

fn value_scale(row: u32) -> vec2f {
  return scale_of(scales[params.Hkv * params.context + row]);
}
