import { expect, test } from 'vitest';
import { openTestGpu } from '../gpu/testing';
import { randomModel, uploadModel } from '../model/reference-model';
import { raggedLayout } from '../model/testing';
import { Engine } from './engine';
import { type Passes, prefillLayers } from './passes';

test('short passes take vector products up to their limit, which is lower beside subgroup matrices', async () => {
  const gpu = await openTestGpu({ software: false });
  const weights = await uploadModel(gpu, randomModel(raggedLayout('mergequant'), 3));
  const engine = await Engine.create(gpu, weights, { chunkTokens: 64 });
  expect(engine.passes.fewTokens).toBe(gpu.caps.subgroupMatrixI8 ? 18 : 36);
  engine.destroy();
});

test.each([
  [1, 'decode'],
  [2, 'few'],
  [24, 'few'],
  [25, 'prefill'],
])('a pass of %i tokens takes the operations of %s', (numTokens, name) => {
  const passes = { prefill: [], few: [], fewTokens: 24, decode: [] } satisfies Partial<Passes>;
  expect(prefillLayers(passes, numTokens)).toBe(passes[name as 'prefill' | 'few' | 'decode']);
  const without = { ...passes, few: null };
  expect(prefillLayers(without, numTokens)).toBe(numTokens === 1 ? passes.decode : passes.prefill);
});
