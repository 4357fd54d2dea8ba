import { describe, expect, test } from 'vitest';
import { type KvCacheKind, kvCacheBytes, kvRowBytes, kvScalesBytes } from '../format/kv-cache';
import { halfValue } from './dense-layout.ref';
import { rowCodesRef, rowScaleRef } from './kv-cache.ref';
import { KernelShapeError } from './op';
import { ropeAppend } from './rope-append';
import { rotateRef } from './rope-append.ref';
import { ropeTable } from './rope-table';
import { capabilitySets, expectClose, expectEqualInts, KernelBench, normals } from './testing';

const shapes = [
  { numTokens: 1, position: 0, numHeads: 4, numKvHeads: 4, headDim: 8, contextLength: 1 },
  { numTokens: 5, position: 32, numHeads: 4, numKvHeads: 2, headDim: 8, contextLength: 37 },
  { numTokens: 65, position: 3, numHeads: 8, numKvHeads: 1, headDim: 64, contextLength: 70 },
  { numTokens: 2, position: 100, numHeads: 4, numKvHeads: 2, headDim: 128, contextLength: 111 },
  { numTokens: 7, position: 1, numHeads: 3, numKvHeads: 3, headDim: 96, contextLength: 9 },
  { numTokens: 2, position: 9, numHeads: 2, numKvHeads: 1, headDim: 6, contextLength: 12 },
  { numTokens: 2, position: 9, numHeads: 1, numKvHeads: 1, headDim: 2, contextLength: 12 },
];

/** A stored row is as near to `expected` as its codes allow, and its step no larger than it must be. */
function checkRow(
  kind: Exclude<KvCacheKind, 'f16'>,
  words: Uint32Array,
  scaleBits: number,
  expected: Float64Array,
  rotation: number,
): void {
  const levels = kind === 'int8' ? 255 : 15;
  const { step, minimum } = rowScaleRef(scaleBits);
  const [least, most] = [Math.min(...expected), Math.max(...expected)];
  // A 16-bit float has 8 bits of mantissa: the minimum is at most 2^-7 of itself too low, the step 2^-7 too large.
  expect(minimum).toBeLessThanOrEqual(least + rotation);
  expect(minimum).toBeGreaterThanOrEqual(least - rotation - Math.abs(least) * 2 ** -7);
  expect(step).toBeLessThanOrEqual(((most - minimum + rotation) / levels) * (1 + 2 ** -7 + 2 ** -20));
  const codes = rowCodesRef(kind, words, expected.length);
  // Half a step, and what an inverse with 2.5 ULP, a difference and a product make of 255 steps: 255 · 5 · 2^-23.
  const allowed = step * (0.5 + 255 * 5 * 2 ** -23) + 2 * rotation;
  const stored = codes.map((code) => minimum + step * code);
  expectClose(stored, expected, () => allowed + 1e-30);
  const perWord = kind === 'int8' ? 4 : 8;
  const padding = rowCodesRef(kind, words, words.length * perWord).slice(expected.length);
  expect(padding.every((code) => code === 0)).toBe(true);
}

describe.each(capabilitySets)('rope_append with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  test.each(shapes)(
    'T=$numTokens at $position H=$numHeads/$numKvHeads Dh=$headDim context=$contextLength',
    async (shape) => {
      const { numTokens, position, numHeads, numKvHeads, headDim, contextLength } = shape;
      const heads = numHeads + 2 * numKvHeads;
      const qkv = normals(numTokens * heads * headDim, 1, 3);
      const table = ropeTable({ headDim, ropeTheta: 10000, ropeScaling: null }, contextLength);
      const cacheWords = kvCacheBytes(shape, contextLength, 'f16') / 4;
      const [keyCache, valueCache] = [bench.output(cacheWords), bench.output(cacheWords)];
      const qkvBuffer = bench.input(qkv);
      const buffers = { qkv: qkvBuffer, table: bench.input(table), keyCache, valueCache };
      const op = await ropeAppend(bench, { ...shape, ...buffers, step: bench.step(numTokens, position) });
      await bench.run([op], numTokens);

      const rotated = new Float32Array(await bench.read(qkvBuffer));
      const keys = new Uint16Array((await bench.readOutput(keyCache, cacheWords)).buffer);
      const values = new Uint16Array((await bench.readOutput(valueCache, cacheWords)).buffer);
      const stride = kvRowBytes(headDim, 'f16') / 2;
      const written = new Set<number>();
      for (let t = 0; t < numTokens; t++) {
        const angles = table.subarray((position + t) * headDim).subarray(0, headDim);
        for (let h = 0; h < heads; h++) {
          const start = (t * heads + h) * headDim;
          const head = qkv.subarray(start, start + headDim);
          const size = Math.max(...head.map(Math.abs));
          const cache = h < numHeads + numKvHeads ? keys : values;
          const row = ((h - numHeads) % numKvHeads) * contextLength + position + t;
          const stored = Float64Array.from(cache.subarray(row * stride, (row + 1) * stride), halfValue);
          // Two products and a sum: 3 roundings of at most size·2^-24 each (|cos|, |sin| ≤ 1, so 2·size bounds the sum).
          const rotation = 4 * size * 2 ** -24;
          // WGSL may round to a half either way: one unit in the last place, 2^-10 relative or 2^-24 when subnormal.
          const half = (value: number) => rotation + Math.abs(value) * 2 ** -10 + 2 ** -24;
          if (h < numHeads) {
            expectClose(rotated.subarray(start, start + headDim), rotateRef(head, angles), () => rotation);
            continue;
          }
          expectEqualInts(rotated.subarray(start, start + headDim), head);
          expectClose(stored.subarray(0, headDim), cache === keys ? rotateRef(head, angles) : head, half);
          expect(stored.subarray(headDim).every((value) => value === 0)).toBe(true);
          written.add(row);
        }
      }
      // Rows of other positions keep the sentinel, a quiet NaN whose halves are 0xdead and 0x7fc0.
      const words = [keys, values].map((cache) => new Uint32Array(cache.buffer));
      for (let row = 0; row < numKvHeads * contextLength; row++) {
        if (written.has(row)) continue;
        const at = (row * stride) / 2;
        for (const cache of words) {
          expect(cache.subarray(at, at + stride / 2).every((word) => word === 0x7fc0dead)).toBe(true);
        }
      }
    },
  );

  const coded = (['int8', 'int4'] as const).flatMap((kvCache) =>
    shapes.map((shape) => ({ ...shape, kvCache })),
  );
  test.each(coded)(
    '$kvCache T=$numTokens at $position H=$numHeads/$numKvHeads Dh=$headDim context=$contextLength',
    async ({ kvCache, ...shape }) => {
      const { numTokens, position, numHeads, numKvHeads, headDim, contextLength } = shape;
      const heads = numHeads + 2 * numKvHeads;
      const qkv = normals(numTokens * heads * headDim, 1, 3);
      qkv.fill(0.3, (heads - 1) * headDim, heads * headDim); // a row of equal elements
      const table = ropeTable({ headDim, ropeTheta: 10000, ropeScaling: null }, contextLength);
      const cacheWords = kvCacheBytes(shape, contextLength, kvCache) / 4;
      const scaleWords = kvScalesBytes(shape, contextLength, kvCache) / 4;
      const buffers = {
        qkv: bench.input(qkv),
        table: bench.input(table),
        keyCache: bench.output(cacheWords),
        valueCache: bench.output(cacheWords),
        kvScales: bench.output(scaleWords),
      };
      const step = bench.step(numTokens, position);
      await bench.run([await ropeAppend(bench, { ...shape, ...buffers, kvCache, step })], numTokens);

      const rotated = new Float32Array(await bench.read(buffers.qkv));
      const caches = [
        await bench.readOutput(buffers.keyCache, cacheWords),
        await bench.readOutput(buffers.valueCache, cacheWords),
      ];
      const scales = await bench.readOutput(buffers.kvScales, scaleWords);
      const rowWords = kvRowBytes(headDim, kvCache) / 4;
      const written = new Set<number>();
      for (let t = 0; t < numTokens; t++) {
        const angles = table.subarray((position + t) * headDim).subarray(0, headDim);
        for (let h = 0; h < heads; h++) {
          const start = (t * heads + h) * headDim;
          const head = qkv.subarray(start, start + headDim);
          const rotation = 4 * Math.max(...head.map(Math.abs)) * 2 ** -24; // as above
          if (h < numHeads) {
            expectClose(rotated.subarray(start, start + headDim), rotateRef(head, angles), () => rotation);
            continue;
          }
          const which = h < numHeads + numKvHeads ? 0 : 1;
          const row = ((h - numHeads) % numKvHeads) * contextLength + position + t;
          const words = caches[which]!.subarray(row * rowWords, (row + 1) * rowWords);
          const expected = which === 0 ? rotateRef(head, angles) : Float64Array.from(head);
          checkRow(kvCache, words, scales[which * numKvHeads * contextLength + row]!, expected, rotation);
          written.add(row);
        }
      }
      for (let row = 0; row < numKvHeads * contextLength; row++) {
        if (written.has(row)) continue;
        const rows = caches.map((cache) => cache.subarray(row * rowWords, (row + 1) * rowWords));
        const rowScales = [scales[row]!, scales[numKvHeads * contextLength + row]!];
        expect([...rows.flatMap((words) => [...words]), ...rowScales].every((w) => w === 0x7fc0dead)).toBe(
          true,
        );
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
