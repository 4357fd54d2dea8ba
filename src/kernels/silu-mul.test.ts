import { describe, test } from 'vitest';
import { siluMul } from './silu-mul';
import { siluMulRef } from './silu-mul.ref';
import { capabilitySets, expectClose, KernelBench, normals } from './testing';

describe.each(capabilitySets)('silu_mul with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  test.each([
    { numTokens: 1, ffnSize: 1 },
    { numTokens: 1, ffnSize: 172 },
    { numTokens: 3, ffnSize: 11008 },
  ])('T=$numTokens F=$ffnSize', async ({ numTokens, ffnSize }) => {
    const gateUp = normals(2 * numTokens * ffnSize, 1, 6);
    gateUp.set([-100, 3], 0); // silu underflows to -0
    const y = bench.output(numTokens * ffnSize);
    const op = await siluMul(bench, { ffnSize, step: bench.step(numTokens), gateUp: bench.input(gateUp), y });
    await bench.run([op], numTokens);
    // exp, the division and the two products: WGSL allows exp 3 + 2|x| ULP and the division 2.5 ULP.
    const tolerance = (value: number, i: number) =>
      Math.abs(value) * 2 ** -23 * (8 + 2 * Math.abs(gateUp[2 * i]!)) + 1e-30;
    expectClose(await bench.readFloats(y, numTokens * ffnSize), siluMulRef(gateUp), tolerance);
  });
});
