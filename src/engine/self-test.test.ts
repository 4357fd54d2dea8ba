import { describe, expect, test } from 'vitest';
import { kvCacheKinds } from '../format/kv-cache';
import { tinyConfig, tinyLayout } from '../format/manifest-fixture';
import { schemeNames } from '../format/scheme';
import type { ModelLayout } from '../format/tensors';
import { openGpuWithBug, openTestGpu } from '../gpu/testing';
import { capabilitySets } from '../kernels/testing';
import { randomModel, uploadModel } from '../model/reference-model';
import { Engine } from './engine';
import { crossCheck, selfTest } from './self-test';

describe.each(capabilitySets)('a GPU that computes rightly passes, with $name', async ({ options }) => {
  const gpu = await openTestGpu(options);
  // One set compiles what every scheme uses, the others what differs there.
  const whole = !options.without && !options.software;
  test.each(whole ? schemeNames : (['fp16', 'rtn-dynamic', 'mergequant'] as const))('%s', async (scheme) => {
    await expect(selfTest(gpu, tinyLayout(scheme), 128)).resolves.toBeUndefined();
  });
  test.each(whole ? kvCacheKinds : (['int8'] as const))(
    '%s keys and values, 8-bit embedding and head',
    async (kvCache) => {
      const layout: ModelLayout = { ...tinyLayout('mergequant'), embeddingBits: 8, headBits: 8 };
      await expect(selfTest(gpu, layout, 128, kvCache)).resolves.toBeUndefined();
    },
  );
  test.each(whole ? [{ groupSize: null }, { groupSize: 128 }] : [{ groupSize: 128 }])(
    '3-bit weights, %j',
    async (grid) => {
      await expect(selfTest(gpu, tinyLayout('mergequant', grid), 128)).resolves.toBeUndefined();
    },
  );
});

test.each([32, 256])(
  'a rotated model with Hadamard blocks of %i is tested with such blocks',
  async (downBlock) => {
    const layout = tinyLayout('mergequant');
    const rotated: ModelLayout = { ...layout, quant: { ...layout.quant!, hadamard: { downBlock } } };
    await selfTest(await openTestGpu(), rotated, 128);
  },
);

describe('a GPU that computes wrongly is found out', () => {
  test.each<[string, ModelLayout['scheme'], RegExp, string, number?]>([
    ['the int4 product reads the wrong nibbles', 'mergequant', />> 4u\) & low/g, '>> 3u) & low'],
    [
      'the tiled int4 product reads the wrong nibbles',
      'mergequant',
      /\(w\.x >> 4u\) & low, w\.y/g,
      '(w.x >> 3u) & low, w.y',
    ],
    ['rounding is towards zero', 'mergequant', /clamp\(round\(/g, 'clamp(trunc('],
    ['the softmax uses 2^x', 'fp16', /\bexp\(/g, 'exp2('],
    ['the softmax uses 2^x', 'mergequant', /\bexp\(/g, 'exp2('],
    ['RoPE turns the other way', 'fp16', /\bangle\.y\b/g, '(-angle.y)'],
    ['the square root is missing', 'fp16', /\binverseSqrt\(/g, 'abs('],
    ['the 3-bit product takes the wrong high bit', 'mergequant', /p\.high << 5u/g, 'p.high << 4u', 128],
  ])('%s', async (_, scheme, from, to, groupSize) => {
    const { gpu, changed } = await openGpuWithBug(from, to);
    const layout = tinyLayout(scheme, groupSize === undefined ? null : { groupSize });
    await expect(selfTest(gpu, layout, 128)).rejects.toMatchObject({ name: 'SelfTestError' });
    expect(changed()).toBeGreaterThan(0);
  });
});

test.each([
  ['the step of a row is half of what it must be', /1\.0 \/ step,/g, '2.0 / step,'],
  ['minima are forgotten', /added\.minima \+= weighted_minima/g, 'added.minima += 0.0 * weighted_minima'],
  ['elements of a word are swapped', /vec4u\(0u, 8u, 16u, 24u\)/g, 'vec4u(8u, 0u, 16u, 24u)'],
])('an 8-bit cache that is wrong is found out: %s', async (_, from, to) => {
  const { gpu, changed } = await openGpuWithBug(from, to);
  await expect(selfTest(gpu, tinyLayout('mergequant'), 128, 'int8')).rejects.toMatchObject({
    name: 'SelfTestError',
  });
  expect(changed()).toBeGreaterThan(0);
});

test('prefill and decode of the loaded model agree', async () => {
  const gpu = await openTestGpu({ software: false });
  const layout: ModelLayout = { ...tinyLayout('mergequant'), config: { ...tinyConfig, numLayers: 2 } };
  const engine = await Engine.create(gpu, await uploadModel(gpu, randomModel(layout, 5)), {
    chunkTokens: 64,
  });
  await crossCheck(engine);
  engine.destroy();
});

test('a decode kernel that differs from the prefill kernel is found in the loaded model', async () => {
  const { gpu, changed } = await openGpuWithBug(/subgroupAdd\(/g, '1 + subgroupAdd(');
  const layout = tinyLayout('mergequant');
  const engine = await Engine.create(gpu, await uploadModel(gpu, randomModel(layout, 5)), {
    chunkTokens: 64,
  });
  expect(changed()).toBeGreaterThan(0);
  await expect(crossCheck(engine)).rejects.toThrow(/as a prompt and token by token/);
  engine.destroy();
});
