import { describe, expect, test } from 'vitest';
import { fillRandom, type RandomContent } from './fill-random';
import { capabilitySets, expectEqualInts, KernelBench } from './testing';

/** PCG-RXS-M-XS on exact 32-bit integers. */
function hash(i: number, seed: number): number {
  const state = (Math.imul(i ^ seed, 747796405) + 2891336453) >>> 0;
  const word = Math.imul((state >>> ((state >>> 28) + 4)) ^ state, 277803737) >>> 0;
  return ((word >>> 22) ^ word) >>> 0;
}

describe.each(capabilitySets)('fill_random with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);
  const fill = async (words: number, seed: number, content: RandomContent) => {
    const buffer = bench.arena.create('filled', 4 * words, { category: 'scratch' });
    await bench.run([await fillRandom(bench, { buffer, seed, content })], 1);
    return bench.read(buffer);
  };

  test('int4 words are the hash of seed and index', async () => {
    const words = new Uint32Array(await fill(1000, 7, { kind: 'int4' }));
    expectEqualInts(
      words,
      Array.from({ length: 1000 }, (_, i) => hash(i, 7)),
    );
  });

  test('floats stay in their range, spread over it, and differ by seed', async () => {
    const values = new Float32Array(await fill(4000, 1, { kind: 'f32', center: 2, spread: 0.5 }));
    const exact = Array.from({ length: 4000 }, (_, i) => 2 + 0.5 * ((hash(i, 1) & 0xffff) / 32768 - 1));
    values.forEach((value, i) => {
      expect(Math.abs(value - exact[i]!)).toBeLessThan(2 ** -22); // one rounding of a number below 4
    });
    const other = new Float32Array(await fill(4000, 2, { kind: 'f32', center: 2, spread: 0.5 }));
    expect(other).not.toEqual(values);
  });
});
