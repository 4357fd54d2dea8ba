/** The merged norm's output, as the engine computes it. */
import type { ActBits } from '../format/scheme';
import { rmsNorm } from './forward';
import { clamp, intRange, type Matrix, matrix, roundHalfEven } from './matrix';

export interface MergedNorm {
  readonly mult: Float32Array;
  readonly gather: Uint32Array;
  readonly offset: ArrayLike<number> | null;
}

/** x[gather]·mult/RMS(x): [T, D] -> [T, K'], before rounding. */
export function normFloats(x: Matrix, { mult, gather }: MergedNorm, _: ActBits, eps: number): Matrix {
  const normed = rmsNorm(x, new Float32Array(x.cols).fill(1), eps);
  const out = matrix(x.rows, mult.length);
  for (let i = 0; i < out.data.length; i++) {
    const j = i % mult.length;
    out.data[i] = normed.data[Math.floor(i / mult.length) * x.cols + gather[j]!]! * mult[j]!;
  }
  return out;
}

/** q = clamp(round(x[gather]·mult/RMS(x)) + offset): [T, D] -> integers held as floats [T, K']. */
export function normIntegers(x: Matrix, norm: MergedNorm, actBits: ActBits, eps: number): Matrix {
  const { min, max } = intRange(actBits);
  const { cols, rows, data } = normFloats(x, norm, actBits, eps);
  const offset = (i: number) => norm.offset?.[i % cols] ?? 0;
  return matrix(
    rows,
    cols,
    data.map((value, i) => clamp(roundHalfEven(value) + offset(i), min, max)),
  );
}
