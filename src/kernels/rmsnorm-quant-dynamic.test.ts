import { describe, expect, test } from 'vitest';
import type { ActBits } from '../format/scheme';
import { checkToken, quantizedOutput, readQuantized } from './quantizer-testing';
import { rmsnormQuantDynamic } from './rmsnorm-quant-dynamic';
import { rmsnormQuantDynamicRef } from './rmsnorm-quant-dynamic.ref';
import { capabilitySets, KernelBench, normals } from './testing';

interface Case {
  readonly numTokens: number;
  readonly hiddenSize: number;
  readonly actBits: ActBits;
  readonly ratio: number;
  readonly threads?: number;
}

const eps = 1e-5;

describe.each(capabilitySets)('rmsnorm_quant_dynamic with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function quantize(shape: Case, x: Float32Array<ArrayBuffer>, weight: Float32Array<ArrayBuffer>) {
    const { numTokens, hiddenSize, actBits, ratio, threads = 256 } = shape;
    const inputs = Math.ceil(hiddenSize / 32) * 32;
    const output = quantizedOutput(bench, numTokens, inputs);
    const op = await rmsnormQuantDynamic(bench, {
      ...{ hiddenSize, inputs, eps, actBits, ratio, step: bench.step(numTokens) },
      ...{ x: bench.input(x), weight: bench.input(weight), ...output, tuning: { threads } },
    });
    await bench.run([op], numTokens + 2); // a grid larger than the step: nothing behind T is written
    return readQuantized(bench, output, numTokens, inputs);
  }

  test.each<Case>([
    { numTokens: 1, hiddenSize: 1, actBits: 4, ratio: 1 },
    { numTokens: 3, hiddenSize: 172, actBits: 4, ratio: 0.8 },
    { numTokens: 65, hiddenSize: 192, actBits: 8, ratio: 1, threads: 64 },
    { numTokens: 2, hiddenSize: 4096, actBits: 8, ratio: 0.95 },
    { numTokens: 2, hiddenSize: 1030, actBits: 4, ratio: 0.55, threads: 1 },
  ])('T=$numTokens D=$hiddenSize, $actBits bits, ratio $ratio', async (shape) => {
    const { numTokens, hiddenSize, actBits, ratio, threads = 256 } = shape;
    const x = normals(numTokens * hiddenSize, 5, 3);
    const weight = normals(hiddenSize, 6).map((value) => 1 + 0.2 * value);
    const tokens = await quantize(shape, x, weight);
    // Sum of squares: D / threads roundings in a lane, 8 in the tree, 1 for the square, halved by the root; division 2.5
    // and inverseSqrt 2 ULP; two products. The scale adds its factor and a product, the value 1 reciprocal and a product.
    const norm = (hiddenSize / threads + 9) / 2 + 2.5 / 2 + 2 + 2;
    const errors = { scaleError: (norm + 2) * 2 ** -23, valueError: (norm + 6) * 2 ** -23 };
    let neighbours = 0;
    tokens.forEach((token, t) => {
      const row = x.subarray(t * hiddenSize, (t + 1) * hiddenSize);
      const reference = rmsnormQuantDynamicRef(row, weight, eps, actBits, ratio);
      neighbours += checkToken(token, { ...reference, ...errors }, actBits);
    });
    expect(neighbours).toBeLessThanOrEqual(Math.max(1, x.length * 3e-4));
  });

  test('an all-zero token gives zeros and scale 0; a zero weight silences its channel', async () => {
    const hiddenSize = 96;
    const x = normals(3 * hiddenSize, 7);
    x.fill(0, hiddenSize, 2 * hiddenSize);
    const weight = new Float32Array(hiddenSize).fill(1);
    weight[5] = 0;
    x[5] = 1e4;
    const tokens = await quantize({ numTokens: 3, hiddenSize, actBits: 4, ratio: 1 }, x, weight);
    expect(tokens[1]).toEqual({ q: new Int8Array(hiddenSize), scale: 0, sum: 0 });
    expect(tokens[0]!.q[5]).toBe(0);
    expect(tokens[0]!.q.some((value) => Math.abs(value) >= 7)).toBe(true);
  });

  test('a token is the same bits alone and in a chunk', async () => {
    const hiddenSize = 1030;
    const numTokens = 7;
    const x = normals(numTokens * hiddenSize, 8, 5);
    const weight = normals(hiddenSize, 9);
    const chunk = await quantize({ numTokens, hiddenSize, actBits: 8, ratio: 1 }, x, weight);
    for (let t = 0; t < numTokens; t++) {
      const row = x.slice(t * hiddenSize, (t + 1) * hiddenSize);
      const [alone] = await quantize({ numTokens: 1, hiddenSize, actBits: 8, ratio: 1 }, row, weight);
      expect(alone).toEqual(chunk[t]);
    }
  });
});
