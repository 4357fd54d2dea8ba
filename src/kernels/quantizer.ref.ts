import { type ActBits, qMax } from '../format/scheme';

/** Round half to even, as WGSL's `round` does. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const fraction = value - floor;
  if (fraction !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** The integer of a float64 value before rounding: round half to even, add the offset, clamp to `bits` bits. */
export function quantizeRef(value: number, bits: ActBits, offset = 0): number {
  const largest = qMax(bits);
  return Math.min(largest, Math.max(-largest - 1, roundHalfEven(value) + offset));
}

/** One dynamically quantized row in float64: s = ratio·max|y| / Qmax and y / s, zeros where s is not a normal float32. */
export function dynamicRowRef(
  y: Float64Array,
  bits: ActBits,
  ratio: number,
): { scale: number; values: Float64Array } {
  const maximum = y.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  const scale = (ratio * maximum) / qMax(bits);
  if (scale < 2 ** -126) return { scale: 0, values: new Float64Array(y.length) };
  return { scale, values: y.map((value) => value / scale) };
}

/** 1 / sqrt(mean(x²) + eps) of one row, in float64. */
export function inverseRmsRef(x: Float32Array, eps: number): number {
  return 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + eps);
}
