// Steps and minima of a quantized cache's rows, for attention_decode, which appends the token's own row (behind
// kv_scaled.wgsl): that row's are read from workgroup memory, as its elements are.

@group(0) @binding(scales_binding) var<storage, read_write> scales: array<u32>; // [2 (keys, values), Hkv, context]

var<workgroup> own_scales: array<u32, 2>; // of the key, of the value

fn key_scale(row: u32) -> vec2f {
  let is_own = row == own_row;
  return scale_of(select(scales[select(row, other_row, is_own)], own_scales[0], is_own));
}

fn value_scale(row: u32) -> vec2f {
  let is_own = row == own_row;
  let first = params.Hkv * params.context;
  return scale_of(select(scales[first + select(row, other_row, is_own)], own_scales[1], is_own));
}

fn keep_own_key(row: RowCode, is_writer: bool) {
  own_scales[0] = row.bits;
  if (is_writer) {
    scales[own_row] = row.bits;
  }
}

fn keep_own_value(row: RowCode, is_writer: bool) {
  own_scales[1] = row.bits;
  if (is_writer) {
    scales[params.Hkv * params.context + own_row] = row.bits;
  }
}
