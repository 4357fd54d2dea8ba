/** What the tests of the four activation quantizers share: outputs and their comparison with float64 references. */
import type { ActBits } from '../format/scheme';
import type { QuantizedOutput } from './quantizer';
import { quantizeRef } from './quantizer.ref';
import type { KernelBench } from './testing';

/** One token as a quantizer left it. */
export interface QuantizedToken {
  readonly q: Int8Array; // [K']
  readonly scale: number;
  readonly sum: number;
}

/** What one token should be: float64 values before rounding, and how far float32 may be from them. */
export interface ExpectedToken {
  readonly values: Float64Array; // [K]; elements behind K must be 0
  readonly scale: number;
  /** Relative error that float32 arithmetic may have in `values`. */
  readonly valueError: number;
  readonly scaleError: number;
  readonly offsets?: Int32Array; // [K]
}

export function quantizedOutput(
  bench: KernelBench,
  numTokens: number,
  paddedInputs: number,
): QuantizedOutput {
  return { q: bench.output((numTokens * paddedInputs) / 4), qmeta: bench.output(2 * numTokens) };
}

/** Reads `numTokens` tokens back; throws when anything behind them was written. */
export async function readQuantized(
  bench: KernelBench,
  output: QuantizedOutput,
  numTokens: number,
  paddedInputs: number,
): Promise<QuantizedToken[]> {
  const q = new Int8Array((await bench.readOutput(output.q, (numTokens * paddedInputs) / 4)).buffer);
  const meta = (await bench.readOutput(output.qmeta, 2 * numTokens)).buffer;
  const scales = new Float32Array(meta);
  const sums = new Int32Array(meta);
  return Array.from({ length: numTokens }, (_, t) => ({
    q: q.slice(t * paddedInputs, (t + 1) * paddedInputs),
    scale: scales[2 * t]!,
    sum: sums[2 * t + 1]!,
  }));
}

/**
 * Throws unless the token's scale is right, its sum is that of its integers, its padding is 0, and every integer is the
 * rounded reference. Where the reference lies within float32's error of a rounding boundary the neighbour is right as
 * well; returns how many elements needed that.
 */
export function checkToken(actual: QuantizedToken, expected: ExpectedToken, bits: ActBits): number {
  const { values, scale, offsets } = expected;
  if (!(Math.abs(actual.scale - scale) <= scale * expected.scaleError))
    throw new Error(`scale ${actual.scale}, expected ${scale}`);
  const sum = actual.q.reduce((total, value) => total + value, 0);
  if (sum !== actual.sum) throw new Error(`sum ${actual.sum}, but the integers add up to ${sum}`);
  let neighbours = 0;
  actual.q.forEach((integer, k) => {
    const value = values[k] ?? 0;
    const offset = offsets?.[k] ?? 0;
    const error = Math.abs(value) * expected.valueError;
    if (integer === quantizeRef(value, bits, offset)) return;
    neighbours++;
    const reachable = [value - error, value + error].some((v) => integer === quantizeRef(v, bits, offset));
    if (!reachable)
      throw new Error(
        `element ${k}: actual ${integer}, expected ${value} + ${offset} rounded to ${bits} bits`,
      );
  });
  return neighbours;
}
