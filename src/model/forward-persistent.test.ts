import { describe, expect, test } from 'vitest';
import type { SchemeName } from '../format/scheme';
import { type GpuMemory, placeOf } from '../gpu/arena';
import type { Op } from '../kernels/op';
import { type PersistentTuning, stoppedWord } from '../kernels/persistent-token';
import { expectEqualInts, KernelBench } from '../kernels/testing';
import { buildDecodeLayers } from './forward-decode';
import { buildPersistentLayers, PersistentUnfitError } from './forward-persistent';
import { randomModel, uploadModel } from './reference-model';
import { createScratch, type Scratch } from './scratch';
import { raggedConfig, raggedLayout } from './testing';

/** A bias in one of the two halves, and an FFN longer than 256 invocations keep in registers. */
const config = { ...raggedConfig, intermediateSize: 6176 };
const layout = (scheme: SchemeName) => raggedLayout(scheme, { hadamard: { downBlock: 4 } }, config);
const rotated = layout('mergequant');

describe('a token in one dispatch', async () => {
  const bench = await KernelBench.open({ software: false });
  const { device } = bench.gpu;
  const packed = { packed: true };
  const oneGroup = { groups: 1, threads: 256 };

  /** Runs a token at each position; the residual stream and the caches of both layers. */
  async function run(ops: readonly Op[], scratch: Scratch, positions: readonly number[]) {
    for (const position of positions) {
      device.queue.writeBuffer(scratch.ids, 0, new Uint32Array([(position * 37 + 5) % 100]));
      device.queue.writeBuffer(scratch.step, 0, new Uint32Array([1, position, 0, 0]));
      await bench.run(ops, 1);
    }
    const words = async (memory: GpuMemory) => {
      const { buffer, offset, size } = placeOf(memory);
      return new Uint32Array(await bench.read(buffer)).slice(offset / 4, (offset + size) / 4);
    };
    const caches = scratch.kvCache.flatMap(({ keys, values }) => [keys, values]);
    return Promise.all([scratch.x, ...caches].map(words));
  }

  // One workgroup: nothing promises that a software adapter runs more at the same time. Static quantizers and a model without
  // a rotation are in the engine's test: a kernel of this size takes a software adapter seconds to compile.
  test('residual stream and caches of the fused pass, bit for bit', async () => {
    const model = randomModel(rotated, 5);
    const plain = await uploadModel(bench.gpu, model);
    const weights = await uploadModel(bench.gpu, model, { isPacked: true });
    const [first, second] = [plain, weights].map((of) => createScratch(bench.arena, of, 80, 1, packed));
    // The first token, the last and first of a piece of attention, the last of the cache.
    const positions = [0, 63, 64, 79];
    const expected = await run(await buildDecodeLayers(bench, plain, first!), first!, positions);
    const { ops, crossing } = await buildPersistentLayers(bench, weights, second!, oneGroup);
    const found = await run(ops, second!, positions);
    expect(new Set(expected[0]).size).toBeGreaterThan(30);
    expected.forEach((bits, i) => {
      expectEqualInts(found[i]!, bits);
    });
    expect(new Uint32Array(await bench.read(crossing))[stoppedWord]).toBe(0);
    expect(ops.length).toBe(2);
  });

  test('workgroups that do not run at the same time give up: NaN then and ever after, never a wrong number', async () => {
    const model = randomModel(rotated, 5);
    const weights = await uploadModel(bench.gpu, model, { isPacked: true });
    const scratch = createScratch(bench.arena, weights, 80, 1, packed);
    const token = (tuning: PersistentTuning) => buildPersistentLayers(bench, weights, scratch, tuning);
    const [expected] = await run((await token(oneGroup)).ops, scratch, [0]);
    const { ops, crossing } = await token({ groups: 3, threads: 256, spinLimit: 64 });
    const [found] = await run(ops, scratch, [0]);
    const stopped = new Uint32Array(await bench.read(crossing))[stoppedWord] !== 0;
    // an adapter that runs all three in step may get there in 64 looks
    if (stopped) expect(new Float32Array(found!.buffer).some(Number.isNaN)).toBe(true);
    else expectEqualInts(found!, expected!);
    device.queue.writeBuffer(crossing, 4 * stoppedWord, new Uint32Array([1]));
    const [after] = await run(ops, scratch, [0]);
    expect(new Float32Array(after!.buffer).every(Number.isNaN)).toBe(true);
  });

  test('what it cannot take is said', async () => {
    const plain = await uploadModel(bench.gpu, randomModel(rotated, 5));
    const scratch = createScratch(bench.arena, plain, 80, 1, packed);
    await expect(buildPersistentLayers(bench, plain, scratch)).rejects.toThrow('more than the kernel');
    const unpacked = createScratch(bench.arena, plain, 80, 1);
    const weights = await uploadModel(bench.gpu, randomModel(rotated, 5), { isPacked: true });
    await expect(buildPersistentLayers(bench, weights, unpacked)).rejects.toThrow('a KV cache of more than');
    const dynamic = await uploadModel(bench.gpu, randomModel(layout('rtn-dynamic'), 5), {
      isPacked: true,
    });
    await expect(buildPersistentLayers(bench, dynamic, scratch)).rejects.toThrow(PersistentUnfitError);
  });
});
