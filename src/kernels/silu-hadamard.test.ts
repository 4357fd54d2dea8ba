import { describe, expect, test } from 'vitest';
import { siluHadamard } from './silu-hadamard';
import { siluHadamardRef, walshHadamardRef } from './silu-hadamard.ref';
import { siluMulRef } from './silu-mul.ref';
import { capabilitySets, expectClose, KernelBench, normals } from './testing';

describe.each(capabilitySets)('silu_hadamard with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function run(gateUp: Float32Array<ArrayBuffer>, numTokens: number, ffnSize: number, block: number) {
    const y = bench.output(numTokens * ffnSize);
    const step = bench.step(numTokens);
    const op = await siluHadamard(bench, { ffnSize, block, step, gateUp: bench.input(gateUp), y });
    await bench.run([op], numTokens);
    return bench.readFloats(y, numTokens * ffnSize);
  }

  test.each([
    { numTokens: 1, ffnSize: 2, block: 2 },
    { numTokens: 3, ffnSize: 172, block: 4 },
    { numTokens: 2, ffnSize: 768, block: 256 },
    { numTokens: 1, ffnSize: 11008, block: 256 },
    { numTokens: 2, ffnSize: 7168, block: 1024 },
    { numTokens: 1, ffnSize: 4096, block: 2048 },
    { numTokens: 5, ffnSize: 192, block: 64 },
  ])('T=$numTokens F=$ffnSize B=$block', async ({ numTokens, ffnSize, block }) => {
    const gateUp = normals(2 * numTokens * ffnSize, 1, 3);
    const activated = siluMulRef(gateUp);
    // Each of log2(B) stages and the final product round once, relative to the sum of magnitudes in the block; silu itself
    // is good to 8 + 2|gate| units (|gate| < 18 here).
    const units = Math.log2(block) + 1 + 8 + 2 * 18;
    const sums = Float64Array.from({ length: activated.length / block }, (_, c) =>
      activated.slice(c * block, (c + 1) * block).reduce((sum, value) => sum + Math.abs(value), 0),
    );
    const tolerance = (_: number, i: number) =>
      (sums[Math.floor(i / block)]! / Math.sqrt(block)) * units * 2 ** -23 + 1e-30;
    expectClose(await run(gateUp, numTokens, ffnSize, block), siluHadamardRef(gateUp, block), tolerance);
  });

  test('a token has the same bits alone and among others', async () => {
    const gateUp = normals(2 * 3 * 172, 2, 3);
    const together = await run(gateUp, 3, 172, 4);
    for (let t = 0; t < 3; t++) {
      const alone = await run(gateUp.slice(t * 344, (t + 1) * 344), 1, 172, 4);
      expect(together.slice(t * 172, (t + 1) * 172)).toEqual(alone);
    }
  });

  test.each([
    { block: 3, ffnSize: 9 },
    { block: 1, ffnSize: 9 },
    { block: 4096, ffnSize: 4096 },
    { block: 8, ffnSize: 172 },
  ])('B=$block does not fit F=$ffnSize', async ({ block, ffnSize }) => {
    const gateUp = bench.input(normals(2 * ffnSize, 1));
    const args = { ffnSize, block, step: bench.step(1), gateUp, y: bench.output(ffnSize) };
    await expect(siluHadamard(bench, args)).rejects.toThrow(/silu_hadamard: expected a block/);
  });
});

test('the reference is orthonormal and symmetric', () => {
  const x = normals(24, 3);
  const once = walshHadamardRef(x, 8);
  const energy = (v: ArrayLike<number>) => Array.from(v).reduce((sum, value) => sum + value * value, 0);
  expect(energy(once)).toBeCloseTo(energy(x), 10);
  expectClose(walshHadamardRef(once, 8), x, () => 1e-12);
});
