import { describe, expect, test } from 'vitest';
import { fewTokens } from '../format/plan-buffers';
import { expectEqualInts, KernelBench } from '../kernels/testing';
import { buildLayers, type LayersKind } from './forward';
import { randomModel, uploadModel } from './reference-model';
import { createScratch } from './scratch';
import { raggedConfig as config, raggedLayout } from './testing';

describe('a pass of few tokens', async () => {
  const bench = await KernelBench.open({ software: false });

  test.each(['mergequant', 'rtn-dynamic'] as const)(
    '%s: residual stream and caches of the tiled pass, bit for bit, whatever the number of tokens',
    async (scheme) => {
      const weights = await uploadModel(bench.gpu, randomModel(raggedLayout(scheme), 3));
      const run = async (kind: LayersKind, numTokens: number) => {
        const scratch = createScratch(bench.arena, weights, 64, fewTokens);
        const ops = await buildLayers(bench, weights, scratch, kind);
        const ids = Uint32Array.from({ length: numTokens }, (_, t) => (t * 37 + 5) % 100);
        // Behind a pass of two tokens, so that there are keys before it.
        for (const [count, position] of [
          [2, 0],
          [numTokens, 2],
        ] as const) {
          bench.gpu.device.queue.writeBuffer(scratch.ids, 0, ids.subarray(0, count));
          bench.gpu.device.queue.writeBuffer(scratch.step, 0, new Uint32Array([count, position, 0, 0]));
          await bench.run(ops, count);
        }
        const { keys, values } = scratch.kvCache[1]!;
        const buffers = [scratch.x, keys as GPUBuffer, values as GPUBuffer];
        return Promise.all(buffers.map(async (buffer) => new Uint32Array(await bench.read(buffer))));
      };
      for (const numTokens of [1, 5, fewTokens]) {
        const tiled = await run('matrix', numTokens);
        const few = await run('few', numTokens);
        expect(new Set(tiled[0]!.subarray(0, numTokens * config.hiddenSize)).size).toBeGreaterThan(30);
        expectEqualInts(
          few[0]!.subarray(0, numTokens * config.hiddenSize),
          tiled[0]!.subarray(0, numTokens * config.hiddenSize),
        );
        expectEqualInts(few[1]!, tiled[1]!);
        expectEqualInts(few[2]!, tiled[2]!);
      }
      weights.arena.destroy();
    },
  );
});
