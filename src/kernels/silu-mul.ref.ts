/** SwiGLU's gate in float64. gateUp [T, 2F] interleaved -> [T, F]. */
export function siluMulRef(gateUp: Float32Array): Float64Array {
  return Float64Array.from({ length: gateUp.length / 2 }, (_, i) => {
    const gate = gateUp[2 * i]!;
    return (gate / (1 + Math.exp(-gate))) * gateUp[2 * i + 1]!;
  });
}
