import { describe, expect, test } from 'vitest';
import { type KvCacheKind, kvCacheKinds } from '../format/kv-cache';
import { attentionPartialsBytes, attentionSplit } from './attention';
import { attentionDecode } from './attention-decode';
import { randomKvCache } from './kv-cache.ref';
import { KernelShapeError } from './op';
import { ropeAppend } from './rope-append';
import { ropeTable } from './rope-table';
import { expectEqualInts, KernelBench, normals } from './testing';

interface Case {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly contextLength: number;
  readonly position: number;
}

const cases: readonly Case[] = [
  { numHeads: 1, numKvHeads: 1, headDim: 8, contextLength: 1, position: 0 },
  { numHeads: 4, numKvHeads: 2, headDim: 8, contextLength: 100, position: 62 },
  { numHeads: 4, numKvHeads: 2, headDim: 8, contextLength: 100, position: 63 }, // the last key of a piece
  { numHeads: 4, numKvHeads: 1, headDim: 24, contextLength: 130, position: 64 }, // the first key of a piece
  { numHeads: 3, numKvHeads: 3, headDim: 64, contextLength: 1100, position: 700 },
  { numHeads: 2, numKvHeads: 1, headDim: 128, contextLength: 300, position: 299 },
  { numHeads: 2, numKvHeads: 1, headDim: 256, contextLength: 260, position: 3 },
];

describe('attention_decode', async () => {
  const bench = await KernelBench.open({ software: false });

  const kinds = kvCacheKinds.flatMap((kvCache) => cases.map((shape) => ({ ...shape, kvCache })));
  test.each(kinds as (Case & { kvCache: KvCacheKind })[])(
    '$kvCache H=$numHeads/$numKvHeads Dh=$headDim at $position of $contextLength: bits of rope_append, then attention',
    async (shape) => {
      const { numHeads, numKvHeads, headDim, contextLength, position, kvCache } = shape;
      const { position: _, ...heads } = shape;
      const partialWords = attentionPartialsBytes(shape, 1) / 4;
      const floats = normals((numHeads + 2 * numKvHeads) * headDim, 50);
      const table = bench.input(ropeTable({ headDim, ropeTheta: 10000, ropeScaling: null }, contextLength));
      const old = randomKvCache(kvCache, numKvHeads * contextLength, headDim, 51);
      const filled = (words: Uint32Array<ArrayBuffer>) => {
        const buffer = bench.output(words.length);
        bench.gpu.device.queue.writeBuffer(buffer, 0, words);
        return buffer;
      };
      const buffers = () => ({
        step: bench.step(1, position),
        qkv: bench.input(floats),
        keyCache: filled(old.keys),
        valueCache: filled(old.values),
        kvScales: filled(old.scales),
        partials: bench.output(partialWords),
      });
      const plain = buffers();
      const out = bench.output(numHeads * headDim);
      const [partial] = await attentionSplit(bench, { ...heads, ...plain, out });
      await bench.run([await ropeAppend(bench, { ...heads, ...plain, table }), partial], 1);
      const fused = buffers();
      await bench.run([await attentionDecode(bench, { ...heads, ...fused, table })], 1);
      const before = { keyCache: old.keys, valueCache: old.values, kvScales: old.scales };
      for (const name of ['keyCache', 'valueCache', 'kvScales'] as const) {
        const words = before[name].length;
        const expected = await bench.readOutput(plain[name], words);
        if (words > 0) expect(expected).not.toEqual(before[name]); // something was appended
        expectEqualInts(await bench.readOutput(fused[name], words), expected);
      }
      expectEqualInts(
        await bench.readOutput(fused.partials, partialWords),
        await bench.readOutput(plain.partials, partialWords),
      );
      const qkv = new Float32Array(await bench.read(fused.qkv));
      expect(qkv.slice(0, floats.length)).toEqual(floats);
      const partials = new Float32Array(await bench.read(fused.partials));
      expect(partials.slice(0, headDim + 2).every(Number.isFinite)).toBe(true);
    },
  );

  test('refuses heads it cannot take', async () => {
    const buffer = bench.output(4096);
    const heads = { numHeads: 4, numKvHeads: 2, headDim: 12, contextLength: 8 };
    const rest = {
      step: bench.step(1),
      qkv: buffer,
      table: buffer,
      keyCache: buffer,
      valueCache: buffer,
      partials: buffer,
    };
    await expect(async () => attentionDecode(bench, { ...heads, ...rest })).rejects.toThrow(
      'a multiple of 8',
    );
    await expect(async () =>
      attentionDecode(bench, { ...heads, ...rest, headDim: 8, numKvHeads: 3 }),
    ).rejects.toThrow(KernelShapeError);
  });
});
