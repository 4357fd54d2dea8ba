import { inverseRmsRef } from './quantizer.ref';

/** Values before rounding of one token, x[gather_k]·mult_k / rms(x), in float64. x [D] -> [K']. */
export function rmsnormQuantStaticRef(
  x: Float32Array,
  gather: Uint32Array,
  mult: Float32Array,
  eps: number,
): Float64Array {
  const r = inverseRmsRef(x, eps);
  return Float64Array.from(mult, (m, k) => x[gather[k]!]! * m * r);
}
