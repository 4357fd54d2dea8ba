import { describe, test } from 'vitest';
import { rmsnorm } from './rmsnorm';
import { rmsnormRef } from './rmsnorm.ref';
import { capabilitySets, expectClose, expectEqualInts, KernelBench, normals } from './testing';

const eps = 1e-5;

describe.each(capabilitySets)('rmsnorm with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function run(x: Float32Array<ArrayBuffer>, weight: Float32Array<ArrayBuffer>, lastRowOnly: boolean) {
    const numTokens = x.length / weight.length;
    const count = lastRowOnly ? weight.length : x.length;
    const y = bench.output(count);
    const buffers = { step: bench.step(numTokens), x: bench.input(x), weight: bench.input(weight), y };
    const op = await rmsnorm(bench, { hiddenSize: weight.length, eps, lastRowOnly, ...buffers });
    await bench.run([op], numTokens);
    return bench.readFloats(y, count);
  }

  // A lane adds D/256 squares one after the other and the tree 8 levels, relative error (D/256 + 8)·2^-24 at most, halved
  // by the root; then division, eps, inverseSqrt (2 ULP) and two products.
  const tolerance = (D: number) => (value: number) => Math.abs(value) * 2 ** -24 * (D / 512 + 16) + 1e-37;

  test.each([
    { numTokens: 1, hiddenSize: 1 },
    { numTokens: 5, hiddenSize: 24 },
    { numTokens: 65, hiddenSize: 256 },
    { numTokens: 2, hiddenSize: 4096 },
  ])('T=$numTokens D=$hiddenSize', async ({ numTokens, hiddenSize }) => {
    const x = normals(numTokens * hiddenSize, 1, 20);
    const weight = normals(hiddenSize, 2);
    const expected = rmsnormRef(x, weight, eps);
    expectClose(await run(x, weight, false), expected, tolerance(hiddenSize));
    expectClose(await run(x, weight, true), expected.slice(-hiddenSize), tolerance(hiddenSize));
  });

  test('an all-zero token gives zeros, a tiny one is ruled by eps', async () => {
    const x = new Float32Array(2 * 24);
    x.fill(1e-4, 24);
    const weight = normals(24, 2);
    expectClose(await run(x, weight, false), rmsnormRef(x, weight, eps), tolerance(24));
  });

  test('a token has the same bits alone and among others', async () => {
    const x = normals(5 * 256, 7);
    const weight = normals(256, 2);
    const among = await run(x, weight, false);
    expectEqualInts(await run(x.slice(2 * 256, 3 * 256), weight, false), among.slice(2 * 256, 3 * 256));
    expectEqualInts(await run(x, weight, true), among.slice(4 * 256));
  });
});
