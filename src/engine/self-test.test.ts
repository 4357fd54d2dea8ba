import { describe, expect, test } from 'vitest';
import { tinyConfig, tinyLayout } from '../format/manifest-fixture';
import { schemeNames } from '../format/scheme';
import type { ModelLayout } from '../format/tensors';
import { openNodeGpu } from '../gpu/node';
import { capabilitySets, openGpuWithBug } from '../kernels/testing';
import { randomModel, uploadModel } from '../model/reference-model';
import { Engine } from './engine';
import { crossCheck, selfTest } from './self-test';

describe.each(capabilitySets)('a GPU that computes rightly passes, with $name', async ({ options }) => {
  const gpu = await openNodeGpu(options);
  test.each(schemeNames)('%s', async (scheme) => {
    await expect(selfTest(gpu, tinyLayout(scheme), 128)).resolves.toBeUndefined();
  });
});

test.each([32, 256])(
  'a rotated model with Hadamard blocks of %i is tested with such blocks',
  async (downBlock) => {
    const layout = tinyLayout('mergequant');
    const rotated: ModelLayout = { ...layout, quant: { ...layout.quant!, hadamard: { downBlock } } };
    await selfTest(await openNodeGpu(), rotated, 128);
  },
);

describe('a GPU that computes wrongly is found out', () => {
  test.each<[string, ModelLayout['scheme'], RegExp, string]>([
    ['the int4 product reads the wrong nibbles', 'mergequant', />> 4u\) & low/g, '>> 3u) & low'],
    ['rounding is towards zero', 'mergequant', /clamp\(round\(/g, 'clamp(trunc('],
    ['the softmax uses 2^x', 'fp16', /\bexp\(/g, 'exp2('],
    ['the softmax uses 2^x', 'mergequant', /\bexp\(/g, 'exp2('],
    ['RoPE turns the other way', 'fp16', /\bangle\.y\b/g, '(-angle.y)'],
    ['the square root is missing', 'fp16', /\binverseSqrt\(/g, 'abs('],
  ])('%s', async (_, scheme, from, to) => {
    const { gpu, changed } = await openGpuWithBug(from, to);
    await expect(selfTest(gpu, tinyLayout(scheme), 128)).rejects.toMatchObject({ name: 'SelfTestError' });
    expect(changed()).toBeGreaterThan(0);
  });
});

test('prefill and decode of the loaded model agree', async () => {
  const gpu = await openNodeGpu({ software: false });
  const layout: ModelLayout = { ...tinyLayout('mergequant'), config: { ...tinyConfig, numLayers: 2 } };
  const engine = await Engine.create(gpu, await uploadModel(gpu, randomModel(layout, 5)), {
    chunkTokens: 16,
  });
  await crossCheck(engine);
  engine.destroy();
});

test('a decode kernel that differs from the prefill kernel is found in the loaded model', async () => {
  const { gpu, changed } = await openGpuWithBug(/subgroupAdd\(/g, '1 + subgroupAdd(');
  const layout = tinyLayout('mergequant');
  const engine = await Engine.create(gpu, await uploadModel(gpu, randomModel(layout, 5)), {
    chunkTokens: 16,
  });
  expect(changed()).toBeGreaterThan(0);
  await expect(crossCheck(engine)).rejects.toThrow(/as a prompt and token by token/);
  engine.destroy();
});
