import { describe, expect, test } from 'vitest';
import { tinyConfig, tinyLayout } from '../format/manifest-fixture';
import { type SchemeName, schemeNames } from '../format/scheme';
import type { ModelLayout } from '../format/tensors';
import { placeOf } from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import { openGpuWithBug, openTestGpu } from '../gpu/testing';
import { capabilitySets } from '../kernels/testing';
import { type RandomModel, randomModel, uploadModel } from '../model/reference-model';
import { Engine } from './engine';
import type { LayerCheckReport } from './layer-check';
import { greedy } from './types';

const prompt = Array.from({ length: 21 }, (_, i) => (i * 131 + 7) % tinyConfig.vocabSize);

/** Loads, spoils what `spoil` says, generates, and gives the check's report. */
async function run(
  gpu: Gpu,
  layout: ModelLayout,
  layer: number,
  spoil: (engine: Engine, model: RandomModel) => void = () => undefined,
): Promise<LayerCheckReport> {
  const model = randomModel(layout, 4);
  const weights = await uploadModel(gpu, model, { maxTensorBytes: 3000, checkLayer: layer });
  const engine = await Engine.create(gpu, weights, { chunkTokens: 16 });
  try {
    spoil(engine, model);
    const stream = engine.generate(prompt, { sampling: greedy, maxTokens: 6, stopTokenIds: [] });
    for (;;) {
      const { value, done } = await stream.next();
      if (done) return value.stats.layerCheck!;
    }
  } finally {
    engine.destroy();
  }
}

function quantized(scheme: SchemeName, changes: Partial<NonNullable<ModelLayout['quant']>>): ModelLayout {
  const layout = tinyLayout(scheme);
  return { ...layout, quant: { ...layout.quant!, ...changes } };
}

type Case = readonly [string, ModelLayout, layer: number];
const every: readonly Case[] = [
  ...schemeNames.map((name): Case => [name, tinyLayout(name), 1]),
  ['the first layer', tinyLayout('mergequant'), 0],
  ['8 bits', quantized('mergequant', { actBits: 8 }), 1],
  ['Hadamard blocks', quantized('mergequant', { hadamard: { downBlock: 4 } }), 1],
];
const few = every.filter(([name]) => name === 'fp16' || name === 'mergequant');

describe.each(capabilitySets)('a layer that computes rightly, with $name', async ({ options }) => {
  const gpu = await openTestGpu(options);
  test.each(options.without || options.software ? few : every)(
    '%s: within its bound',
    async (_, layout, layer) => {
      const report = await run(gpu, layout, layer);
      // two prefill passes, and a decode pass for each token but the last
      expect(report).toMatchObject({ layer, passes: 7 });
      expect(report.largestError).toBeGreaterThan(0);
      expect(report.largestError).toBeLessThanOrEqual(report.allowed);
    },
  );
});

describe('a layer that computes wrongly ends the reply', async () => {
  const gpu = await openTestGpu({ software: false });

  test.each(['qkv', 'o', 'gateUp', 'down'] as const)('one changed nibble of %s', async (product) => {
    const failing = run(gpu, tinyLayout('mergequant'), 1, ({ weights }, { data }) => {
      const name = `layers.1.${product === 'gateUp' ? 'gate_up' : product}.weight`;
      const word = new Uint32Array([Number(data.get(name)!.data[0]) ^ 8]);
      const { buffer, offset } = placeOf(weights.layers[1]![product].blocks[0]!.weight);
      gpu.device.queue.writeBuffer(buffer, offset, word);
    });
    await expect(failing).rejects.toMatchObject({ name: 'LayerCheckError', layer: 1 });
  });

  test('another layer is not looked at', async () => {
    const spoil = ({ weights }: Engine) => {
      const { buffer, offset } = placeOf(weights.layers[0]!.down.blocks[0]!.weight);
      gpu.device.queue.writeBuffer(buffer, offset, new Uint32Array([1]));
    };
    expect((await run(gpu, tinyLayout('mergequant'), 1, spoil)).passes).toBe(7);
  });

  test.each<[string, SchemeName, RegExp, string]>([
    ['rounding towards zero', 'mergequant', /clamp\(round\(/g, 'clamp(trunc('],
    ['softmax with 2^x', 'fp16', /\bexp\(/g, 'exp2('],
    ['RoPE the other way', 'mergequant', /\bangle\.y\b/g, '(-angle.y)'],
  ])('a wrong kernel: %s', async (_, scheme, from, to) => {
    const { gpu: spoiled, changed } = await openGpuWithBug(from, to);
    await expect(run(spoiled, tinyLayout(scheme), 0)).rejects.toMatchObject({ name: 'LayerCheckError' });
    expect(changed()).toBeGreaterThan(0);
  });
});

test('a layer the model does not have', async () => {
  const uploading = openTestGpu().then((gpu) =>
    uploadModel(gpu, randomModel(tinyLayout('mergequant'), 4), { checkLayer: 2 }),
  );
  await expect(uploading).rejects.toThrow('no layer 2: expected a whole number from 0 to 1');
});
