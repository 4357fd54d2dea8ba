import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Checkpoint } from './checkpoint';
import { type HostModel, logits } from './fake-forward';
import { ropeFrequencies } from './forward';
import { floatBlock } from './layer';
import { matrix } from './matrix';
import { tinyConfig } from './testing';

const demo = fileURLToPath(new URL('../../models/demo-chat-8m', import.meta.url));

interface Sample {
  readonly prompt_ids: number[];
  readonly greedy_ids: number[];
  readonly logits_first8: number[];
  readonly logit_top: [id: number, logit: number];
}

async function floatModel(checkpoint: Checkpoint): Promise<HostModel> {
  const { config } = checkpoint;
  const dense = async (name: string) =>
    matrix(config.vocabSize, config.hiddenSize, await checkpoint.tensor(name));
  return {
    config,
    embedding: await dense('embed.weight'),
    finalNorm: await checkpoint.tensor('final_norm.weight'),
    head: await dense('head.weight'),
    block: async (layer) => floatBlock(await checkpoint.layer(layer), config.rmsNormEps),
  };
}

test('the float forward reproduces the golden logits and greedy tokens of the demo checkpoint', async () => {
  const report = JSON.parse(readFileSync(`${demo}/report.json`, 'utf8')) as { samples: Sample[] };
  const checkpoint = await Checkpoint.open(demo);
  const model = await floatModel(checkpoint);
  const all = await logits(
    model,
    report.samples.map(({ prompt_ids, greedy_ids }) => [...prompt_ids, ...greedy_ids]),
  );
  await checkpoint.close();
  report.samples.forEach((sample, i) => {
    const { data, cols } = all[i]!;
    const rowAt = (t: number) => data.subarray(t * cols, (t + 1) * cols);
    const first = sample.prompt_ids.length - 1;
    // both sides are float32: sums of up to 768 products over 8 layers, logits up to 15
    sample.logits_first8.forEach((logit, id) => {
      expect(Math.abs(rowAt(first)[id]! - logit)).toBeLessThan(2e-3);
    });
    expect(Math.abs(rowAt(first)[sample.logit_top[0]]! - sample.logit_top[1])).toBeLessThan(2e-3);
    const greedy = sample.greedy_ids.map((_, t) => rowAt(first + t).indexOf(Math.max(...rowAt(first + t))));
    expect(greedy).toEqual(sample.greedy_ids);
  });
});

describe('rope frequencies', () => {
  const config = { ...tinyConfig, headDim: 64, ropeTheta: 500000 };

  test('linear scaling divides by the factor', () => {
    const plain = ropeFrequencies(config);
    const scaled = ropeFrequencies({ ...config, ropeScaling: { type: 'linear', factor: 4 } });
    expect(plain[0]).toBe(1);
    expect(plain[31]).toBeCloseTo(500000 ** (-62 / 64), 12);
    expect([...scaled]).toEqual([...plain].map((frequency) => frequency / 4));
  });

  test('llama3 scaling keeps short waves, divides long ones and blends between', () => {
    const scaled = ropeFrequencies({
      ...config,
      ropeScaling: {
        type: 'llama3',
        factor: 8,
        lowFreqFactor: 1,
        highFreqFactor: 4,
        originalMaxPositionEmbeddings: 8192,
      },
    });
    const plain = ropeFrequencies(config);
    scaled.forEach((frequency, i) => {
      const wavelength = (2 * Math.PI) / plain[i]!;
      if (wavelength < 8192 / 4) expect(frequency).toBe(plain[i]);
      else if (wavelength > 8192) expect(frequency).toBeCloseTo(plain[i]! / 8, 15);
      else {
        const smooth = (8192 / wavelength - 1) / 3;
        expect(frequency).toBeCloseTo(((1 - smooth) * plain[i]!) / 8 + smooth * plain[i]!, 12);
      }
    });
  });
});
