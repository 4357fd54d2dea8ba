// For kernels that append rows to a quantized cache, behind kv_scaled.wgsl: where steps and minima go.

@group(0) @binding(6) var<storage, read_write> scales: array<u32>; // [2 (keys, values), Hkv, context]

fn keep_code(row: u32, code: RowCode) {
  scales[row] = code.bits;
}
