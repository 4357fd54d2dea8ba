/** Values before rounding of one token, x / s, in float64. x [K]. */
export function quantStaticRef(x: Float32Array, stepSize: number): Float64Array {
  return Float64Array.from(x, (value) => value / stepSize);
}
