import { describe, expect, test } from 'vitest';
import { halfValue } from './dense-layout.ref';
import { KernelShapeError } from './op';
import { kvCacheBytes, ropeAppend } from './rope-append';
import { rotateRef } from './rope-append.ref';
import { ropeTable } from './rope-table';
import { capabilitySets, expectClose, expectEqualInts, KernelBench, normals } from './testing';

const shapes = [
  { numTokens: 1, position: 0, numHeads: 4, numKvHeads: 4, headDim: 8, contextLength: 1 },
  { numTokens: 5, position: 32, numHeads: 4, numKvHeads: 2, headDim: 8, contextLength: 37 },
  { numTokens: 65, position: 3, numHeads: 8, numKvHeads: 1, headDim: 64, contextLength: 70 },
  { numTokens: 2, position: 100, numHeads: 4, numKvHeads: 2, headDim: 128, contextLength: 111 },
  { numTokens: 2, position: 9, numHeads: 2, numKvHeads: 1, headDim: 6, contextLength: 12 },
  { numTokens: 2, position: 9, numHeads: 1, numKvHeads: 1, headDim: 2, contextLength: 12 },
];

describe.each(capabilitySets)('rope_append with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  test.each(shapes)(
    'T=$numTokens at $position H=$numHeads/$numKvHeads Dh=$headDim context=$contextLength',
    async (shape) => {
      const { numTokens, position, numHeads, numKvHeads, headDim, contextLength } = shape;
      const heads = numHeads + 2 * numKvHeads;
      const qkv = normals(numTokens * heads * headDim, 1, 3);
      const table = ropeTable({ headDim, ropeTheta: 10000, ropeScaling: null }, contextLength);
      const cacheWords = kvCacheBytes(numKvHeads, headDim, contextLength) / 4;
      const [keyCache, valueCache] = [bench.output(cacheWords), bench.output(cacheWords)];
      const qkvBuffer = bench.input(qkv);
      const buffers = { qkv: qkvBuffer, table: bench.input(table), keyCache, valueCache };
      const op = await ropeAppend(bench, { ...shape, ...buffers, step: bench.step(numTokens, position) });
      await bench.run([op], numTokens);

      const rotated = new Float32Array(await bench.read(qkvBuffer));
      const keys = new Uint16Array((await bench.readOutput(keyCache, cacheWords)).buffer);
      const values = new Uint16Array((await bench.readOutput(valueCache, cacheWords)).buffer);
      const written = new Set<number>();
      for (let t = 0; t < numTokens; t++) {
        const angles = table.subarray((position + t) * headDim).subarray(0, headDim);
        for (let h = 0; h < heads; h++) {
          const start = (t * heads + h) * headDim;
          const head = qkv.subarray(start, start + headDim);
          const size = Math.max(...head.map(Math.abs));
          const cache = h < numHeads + numKvHeads ? keys : values;
          const row = ((h - numHeads) % numKvHeads) * contextLength + position + t;
          const cached = () =>
            Float64Array.from(cache.subarray(row * headDim, (row + 1) * headDim), halfValue);
          // Two products and a sum: 3 roundings of at most size·2^-24 each (|cos|, |sin| ≤ 1, so 2·size bounds the sum).
          const rotation = 4 * size * 2 ** -24;
          // WGSL may round to a half either way: one unit in the last place, 2^-10 relative or 2^-24 when subnormal.
          const half = (value: number) => rotation + Math.abs(value) * 2 ** -10 + 2 ** -24;
          if (h < numHeads) {
            expectClose(rotated.subarray(start, start + headDim), rotateRef(head, angles), () => rotation);
            continue;
          }
          expectEqualInts(rotated.subarray(start, start + headDim), head);
          expectClose(cached(), cache === keys ? rotateRef(head, angles) : head, half);
          written.add(row);
        }
      }
      // Rows of other positions keep the sentinel, a quiet NaN whose halves are 0xdead and 0x7fc0.
      const words = [keys, values].map((cache) => new Uint32Array(cache.buffer));
      for (let row = 0; row < numKvHeads * contextLength; row++) {
        if (written.has(row)) continue;
        const at = (row * headDim) / 2;
        for (const cache of words) {
          expect(cache.subarray(at, at + headDim / 2).every((word) => word === 0x7fc0dead)).toBe(true);
        }
      }
    },
  );

  test('a position beyond the context stores nothing', async () => {
    const shape = { numHeads: 1, numKvHeads: 1, headDim: 4, contextLength: 2 };
    const table = bench.input(ropeTable({ headDim: 4, ropeTheta: 10000, ropeScaling: null }, 2));
    const [keyCache, valueCache] = [bench.output(4), bench.output(4)];
    const buffers = { qkv: bench.input(normals(12, 1)), table, keyCache, valueCache, step: bench.step(1, 2) };
    await bench.run([await ropeAppend(bench, { ...shape, ...buffers })], 1);
    expectEqualInts(await bench.readOutput(keyCache, 4), new Uint32Array(4).fill(0x7fc0dead));
    expectEqualInts(await bench.readOutput(valueCache, 4), new Uint32Array(4).fill(0x7fc0dead));
  });

  test('an odd head size is refused', () => {
    const buffer = bench.output(4);
    const buffers = { step: buffer, qkv: buffer, table: buffer, keyCache: buffer, valueCache: buffer };
    const shape = { numHeads: 1, numKvHeads: 1, headDim: 7, contextLength: 2 };
    expect(() => ropeAppend(bench, { ...shape, ...buffers })).toThrow(KernelShapeError);
  });
});
