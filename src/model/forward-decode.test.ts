import { describe, expect, test } from 'vitest';
import type { KvCacheKind } from '../format/kv-cache';
import type { ActBits, SchemeName } from '../format/scheme';
import type { Op } from '../kernels/op';
import { expectEqualInts, KernelBench } from '../kernels/testing';
import { buildLayers } from './forward';
import { buildDecodeLayers, canFuseDecode } from './forward-decode';
import { randomModel, uploadModel } from './reference-model';
import { createScratch } from './scratch';
import { raggedLayout } from './testing';

interface Case {
  readonly scheme: SchemeName;
  readonly actBits: ActBits;
  readonly downBlock?: number;
  readonly kvCache?: KvCacheKind;
}

describe('fused decode', async () => {
  const bench = await KernelBench.open({ software: false });
  const { device } = bench.gpu;

  test.each([
    { scheme: 'rtn-dynamic', actBits: 8 },
    { scheme: 'tensor-static', actBits: 4 },
    { scheme: 'mergequant', actBits: 4 },
    { scheme: 'mergequant', actBits: 8 },
    { scheme: 'mergequant-static', actBits: 8 },
    { scheme: 'mergequant', actBits: 4, downBlock: 4 },
    { scheme: 'mergequant', actBits: 8, kvCache: 'int8' },
    { scheme: 'rtn-dynamic', actBits: 4, kvCache: 'int4' },
  ] as Case[])(
    '$scheme A$actBits, Hadamard $downBlock, cache $kvCache: residual stream and caches of the plain pass, bit for bit',
    async ({ scheme, actBits, downBlock, kvCache = 'f16' }) => {
      const model = randomModel(
        raggedLayout(scheme, { actBits, hadamard: downBlock ? { downBlock } : null }),
        5,
      );
      const weights = await uploadModel(bench.gpu, model);
      const run = async (build: typeof buildDecodeLayers) => {
        const scratch = createScratch(bench.arena, weights, 80, 1, { kvCache });
        const ops: readonly Op[] = await build(bench, weights, scratch);
        // The first token, the last and first of a piece of attention; what lies between is zeros in both caches.
        for (const position of [0, 63, 64]) {
          device.queue.writeBuffer(scratch.ids, 0, new Uint32Array([(position * 37 + 5) % 100]));
          device.queue.writeBuffer(scratch.step, 0, new Uint32Array([1, position, 0, 0]));
          await bench.run(ops, 1);
        }
        const buffers = [scratch.x, ...scratch.kvCache.flatMap((cache) => Object.values(cache))].filter(
          (buffer) => buffer !== null,
        );
        return {
          ops,
          bits: await Promise.all(buffers.map(async (b) => new Uint32Array(await bench.read(b)))),
        };
      };
      expect(canFuseDecode(bench.gpu, weights, createScratch(bench.arena, weights, 80, 1))).toBe(true);
      const plain = await run((context, of, scratch) => buildLayers(context, of, scratch, 'vector'));
      const fused = await run(buildDecodeLayers);
      expect(new Set(plain.bits[0]).size).toBeGreaterThan(30);
      plain.bits.forEach((bits, i) => {
        expectEqualInts(fused.bits[i]!, bits);
      });
      expect(fused.ops.length).toBeLessThan(plain.ops.length);
      weights.arena.destroy();
    },
  );

  test('a float model is not fused', async () => {
    const weights = await uploadModel(bench.gpu, randomModel(raggedLayout('fp16'), 5));
    expect(canFuseDecode(bench.gpu, weights, createScratch(bench.arena, weights, 80, 1))).toBe(false);
  });
});
