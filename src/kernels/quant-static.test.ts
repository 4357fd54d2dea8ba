import { describe, expect, test } from 'vitest';
import type { ActBits } from '../format/scheme';
import { KernelShapeError } from './op';
import { quantStatic } from './quant-static';
import { quantStaticRef } from './quant-static.ref';
import { checkToken, quantizedOutput, readQuantized } from './quantizer-testing';
import { capabilitySets, KernelBench, normals } from './testing';

interface Case {
  readonly numTokens: number;
  readonly inputs: number;
  readonly actBits: ActBits;
  readonly stepSize: number;
  readonly threads?: number;
}

describe.each(capabilitySets)('quant_static with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function quantize(
    { numTokens, inputs, actBits, stepSize, threads = 256 }: Case,
    x: Float32Array<ArrayBuffer>,
  ) {
    const paddedInputs = Math.ceil(inputs / 32) * 32;
    const output = quantizedOutput(bench, numTokens, paddedInputs);
    const op = await quantStatic(bench, {
      ...{ inputs, paddedInputs, actBits, stepSize, step: bench.step(numTokens) },
      ...{ x: bench.input(x), ...output, tuning: { threads } },
    });
    await bench.run([op], numTokens + 2); // a grid larger than the step: nothing behind T is written
    return readQuantized(bench, output, numTokens, paddedInputs);
  }

  test.each<Case>([
    { numTokens: 1, inputs: 1, actBits: 4, stepSize: 0.3 },
    { numTokens: 3, inputs: 172, actBits: 4, stepSize: 0.37 },
    { numTokens: 65, inputs: 172, actBits: 8, stepSize: 0.021, threads: 64 },
    { numTokens: 2, inputs: 4160, actBits: 8, stepSize: 0.021 },
    { numTokens: 2, inputs: 1030, actBits: 4, stepSize: 0.5, threads: 1 },
  ])('T=$numTokens K=$inputs, $actBits bits, $threads threads', async (shape) => {
    const x = normals(shape.numTokens * shape.inputs, 2);
    const tokens = await quantize(shape, x);
    let neighbours = 0;
    tokens.forEach((token, t) => {
      const values = quantStaticRef(x.subarray(t * shape.inputs, (t + 1) * shape.inputs), shape.stepSize);
      // The reciprocal of the step and the product: one rounding each.
      neighbours += checkToken(
        token,
        { values, scale: 1, scaleError: 0, valueError: 2 ** -23 },
        shape.actBits,
      );
    });
    expect(neighbours).toBeLessThanOrEqual(x.length * 1e-5);
  });

  test.each([4, 8] as const)('halves round to even and both ends clamp at %i bits', async (actBits) => {
    const x = Float32Array.from({ length: 600 }, (_, i) => (i - 300) / 4);
    x.set([1e30, -1e30], 0);
    const [token] = await quantize({ numTokens: 1, inputs: 600, actBits, stepSize: 0.5 }, x);
    // A power of two: every quotient is exact, so is every integer.
    const expected = { values: quantStaticRef(x, 0.5), scale: 1, scaleError: 0, valueError: 0 };
    expect(checkToken(token!, expected, actBits)).toBe(0);
    expect([...token!.q.slice(0, 2)]).toEqual(actBits === 4 ? [7, -8] : [127, -128]);
  });

  test('refuses a padded length that kernels cannot load', async () => {
    const output = quantizedOutput(bench, 1, 32);
    const args = { inputs: 20, paddedInputs: 20, actBits: 4, stepSize: 1, step: bench.step(1) } as const;
    await expect(quantStatic(bench, { ...args, x: output.q, ...output })).rejects.toThrow(KernelShapeError);
  });
});
