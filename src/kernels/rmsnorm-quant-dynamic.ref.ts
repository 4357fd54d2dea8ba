import type { ActBits } from '../format/scheme';
import { dynamicRowRef, inverseRmsRef } from './quantizer.ref';

/** Scale and values before rounding of one token in float64. x, weight [D]. */
export function rmsnormQuantDynamicRef(
  x: Float32Array,
  weight: Float32Array,
  eps: number,
  bits: ActBits,
  ratio: number,
): { scale: number; values: Float64Array } {
  const r = inverseRmsRef(x, eps);
  return dynamicRowRef(
    Float64Array.from(x, (value, k) => value * weight[k]! * r),
    bits,
    ratio,
  );
}
