import { describe, expect, test } from 'vitest';
import { tinyLayout } from '../format/manifest-fixture';
import { openNodeGpu } from '../gpu/node';
import { stoppedWord } from '../kernels/persistent-token';
import { randomModel, uploadModel } from '../model/reference-model';
import { Engine } from './engine';
import type { EngineOptions } from './options';
import { greedy } from './types';

const layout = tinyLayout('mergequant-static');
const promptIds = [5, 61, 17, 33];

async function drawn(engine: Engine, maxTokens = 6): Promise<number[]> {
  const tokens: number[] = [];
  for await (const id of engine.generate(promptIds, { sampling: greedy, maxTokens, stopTokenIds: [] })) {
    tokens.push(id);
  }
  return tokens;
}

describe('an engine that decodes in one dispatch', async () => {
  const gpu = await openNodeGpu({ software: false });
  const create = async (options: EngineOptions, isPacked = true) =>
    Engine.create(gpu, await uploadModel(gpu, randomModel(layout, 5), { isPacked }), {
      contextLength: 40,
      ...options,
    });

  test('draws the same tokens, and goes back to the ordinary kernels for good when it gives up', async () => {
    const ordinary = await create({});
    const expected = await drawn(ordinary);
    const engine = await create({ persistentDecode: { groups: 1 } });
    const state = engine.persistent!;
    expect(state).toMatchObject({ isOn: true, groups: 1 });
    expect(engine.dispatchesPerToken).toBeLessThan(ordinary.dispatchesPerToken);
    expect(await drawn(engine)).toEqual(expected);
    engine.usePersistent(false);
    expect(engine.dispatchesPerToken).toBe(ordinary.dispatchesPerToken);
    engine.usePersistent(true);
    if (!state.isOn) throw new Error('unreachable');
    gpu.device.queue.writeBuffer(state.layers.crossing, 4 * stoppedWord, new Uint32Array([1]));
    engine.reset();
    await expect(drawn(engine)).rejects.toMatchObject({ name: 'PersistentStoppedError' });
    expect(engine.persistent).toMatchObject({ isOn: false });
    expect(await drawn(engine)).toEqual(expected);
    expect(engine.dispatchesPerToken).toBe(ordinary.dispatchesPerToken);
    ordinary.destroy();
    engine.destroy();
  });

  test('says why it does not', async () => {
    const engine = await create({ persistentDecode: { groups: 1 } }, false);
    expect(engine.persistent).toMatchObject({
      isOn: false,
      reason: expect.stringContaining('more than the kernel'),
    });
    engine.destroy();
    const software = await openNodeGpu({ software: true });
    const weights = await uploadModel(software, randomModel(layout, 5), { isPacked: true });
    const onSoftware = await Engine.create(software, weights, { contextLength: 40, persistentDecode: true });
    expect(onSoftware.persistent).toMatchObject({
      isOn: false,
      reason: expect.stringContaining('software adapter'),
    });
    onSoftware.destroy();
  });
});
