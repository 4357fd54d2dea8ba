import { describe, expect, test } from 'vitest';
import type { ActBits } from '../format/scheme';
import { quantDynamic } from './quant-dynamic';
import { quantDynamicRef } from './quant-dynamic.ref';
import { checkToken, quantizedOutput, readQuantized } from './quantizer-testing';
import { capabilitySets, KernelBench, normals } from './testing';

interface Case {
  readonly numTokens: number;
  readonly inputs: number;
  readonly actBits: ActBits;
  readonly ratio: number;
  readonly threads?: number;
}

describe.each(capabilitySets)('quant_dynamic with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function quantize(
    { numTokens, inputs, actBits, ratio, threads = 256 }: Case,
    x: Float32Array<ArrayBuffer>,
  ) {
    const paddedInputs = Math.ceil(inputs / 32) * 32;
    const output = quantizedOutput(bench, numTokens, paddedInputs);
    const op = await quantDynamic(bench, {
      ...{ inputs, paddedInputs, actBits, ratio, step: bench.step(numTokens) },
      ...{ x: bench.input(x), ...output, tuning: { threads } },
    });
    await bench.run([op], numTokens + 2); // a grid larger than the step: nothing behind T is written
    return readQuantized(bench, output, numTokens, paddedInputs);
  }

  test.each<Case>([
    { numTokens: 1, inputs: 1, actBits: 4, ratio: 1 },
    { numTokens: 3, inputs: 172, actBits: 4, ratio: 0.8 },
    { numTokens: 65, inputs: 172, actBits: 8, ratio: 1, threads: 64 },
    { numTokens: 2, inputs: 4160, actBits: 8, ratio: 0.95 },
    // Longer than what invocations keep in registers:
    { numTokens: 2, inputs: 1030, actBits: 4, ratio: 0.55, threads: 1 },
    { numTokens: 2, inputs: 100, actBits: 4, ratio: 1, threads: 2 },
  ])('T=$numTokens K=$inputs, $actBits bits, ratio $ratio', async (shape) => {
    const x = normals(shape.numTokens * shape.inputs, 3, 2);
    const tokens = await quantize(shape, x);
    let neighbours = 0;
    tokens.forEach((token, t) => {
      const row = x.subarray(t * shape.inputs, (t + 1) * shape.inputs);
      const reference = quantDynamicRef(row, shape.actBits, shape.ratio);
      // Scale: the factor's rounding and a product. Value: these, a reciprocal (2.5 ULP) and a product.
      const errors = { scaleError: 2 ** -23, valueError: 5 * 2 ** -23 };
      neighbours += checkToken(token, { ...reference, ...errors }, shape.actBits);
    });
    expect(neighbours).toBeLessThanOrEqual(Math.max(1, x.length * 1e-4));
  });

  test('zero and subnormal tokens give zeros and scale 0 between ordinary ones', async () => {
    const inputs = 172;
    const x = normals(4 * inputs, 4);
    x.fill(0, inputs, 2 * inputs);
    x.fill(1e-38, 2 * inputs, 3 * inputs); // 1e-38 / 7 is subnormal
    const tokens = await quantize({ numTokens: 4, inputs, actBits: 4, ratio: 1 }, x);
    for (const token of tokens.slice(1, 3)) {
      expect(token.scale).toBe(0);
      expect(token.sum).toBe(0);
      expect(token.q.every((value) => value === 0)).toBe(true);
    }
    expect(tokens[0]!.scale).toBeGreaterThan(0);
    expect(tokens[3]!.scale).toBeGreaterThan(0);
  });

  test('a ratio below one clamps both ends', async () => {
    const x = Float32Array.from({ length: 64 }, (_, k) => (k % 2 === 0 ? 10 : -10));
    const [token] = await quantize({ numTokens: 1, inputs: 64, actBits: 8, ratio: 0.5 }, x);
    expect([...new Set(token!.q)]).toEqual([127, -128]);
  });
});
