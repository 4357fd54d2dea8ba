import type { ActBits } from '../format/scheme';
import { dynamicRowRef } from './quantizer.ref';

/** Scale and values before rounding of one token in float64. x [K]. */
export function quantDynamicRef(
  x: Float32Array,
  bits: ActBits,
  ratio: number,
): { scale: number; values: Float64Array } {
  return dynamicRowRef(Float64Array.from(x), bits, ratio);
}
