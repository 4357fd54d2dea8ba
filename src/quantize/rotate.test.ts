import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { LlamaConfig } from '../format/config';
import { Checkpoint } from './checkpoint';
import { type HostModel, logits } from './fake-forward';
import { floatBlock } from './layer';
import { matrix } from './matrix';
import { onlineHadamard, onlineRotation, RotatedCheckpoint, type WeightSource } from './rotate';
import { tinyConfig, writeRandomCheckpoint } from './testing';

const folder = mkdtempSync(join(tmpdir(), 'rotate-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function floatModel(source: WeightSource, rotated: boolean): Promise<HostModel> {
  const { config } = source;
  const dense = async (name: string) =>
    matrix(config.vocabSize, config.hiddenSize, await source.tensor(name));
  return {
    config,
    embedding: await dense('embed.weight'),
    finalNorm: await source.tensor('final_norm.weight'),
    head: await dense(config.tieWordEmbeddings ? 'embed.weight' : 'head.weight'),
    block: async (layer) =>
      floatBlock(await source.layer(layer), config.rmsNormEps, rotated ? onlineHadamard(config) : null),
  };
}

/** The largest difference; NaN stays NaN. */
function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce(
    (most, value, i) => Math.max(most, Math.abs(value - b[i]!)),
    a.length === b.length ? 0 : 1e9,
  );
}

const sequences = [
  [1, 40, 7, 300, 511, 2, 2, 90],
  [1, 5],
];

test.each<{ label: string; config: Partial<LlamaConfig> }>([
  { label: 'the tiny shape: D 64, Dh 8, F 172 in blocks of 4', config: {} },
  { label: 'tied, with biases', config: { tieWordEmbeddings: true, attentionBias: true, mlpBias: true } },
  { label: 'D 80 = 20·4, one key-value head a head', config: { hiddenSize: 80, numKvHeads: 8 } },
  {
    label: 'D 96 = 12·8, Dh 12, F 192 in blocks of 64',
    config: { hiddenSize: 96, headDim: 12, intermediateSize: 192 },
  },
])('rotated weights compute the same logits: $label', async ({ label, config }) => {
  const dir = join(folder, label.replace(/\W/g, '_'));
  writeRandomCheckpoint(dir, config, { dtype: 'F32', outliers: { 3: 20 } });
  const checkpoint = await Checkpoint.open(dir);
  const before = await logits(await floatModel(checkpoint, false), sequences);
  const after = await logits(await floatModel(new RotatedCheckpoint(checkpoint, 7), true), sequences);
  before.forEach(({ data }, i) => {
    const largest = data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(largest).toBeGreaterThan(0.5);
    expect(largestDifference(after[i]!.data, data)).toBeLessThan(1e-4);
  });
  await checkpoint.close();
});

test('no weight is left where it was, and norms are 1', async () => {
  const dir = join(folder, 'moved');
  writeRandomCheckpoint(dir);
  const checkpoint = await Checkpoint.open(dir);
  const [plain, rotated] = [await checkpoint.layer(1), await new RotatedCheckpoint(checkpoint, 7).layer(1)];
  for (const name of ['qkv', 'o', 'gateUp', 'down'] as const) {
    const equal = plain[name].weight.data.filter((value, i) => value === rotated[name].weight.data[i]).length;
    expect(equal / plain[name].weight.data.length).toBeLessThan(0.01);
  }
  expect(new Set([...rotated.attnNorm, ...rotated.mlpNorm])).toEqual(new Set([1]));
  expect(plain.attnNorm.some((value) => value !== 1)).toBe(true);
  await checkpoint.close();
});

test('the online rotation is y_j = Σ_i (−1)^popcount(i & j)·x_i / √B in each block', () => {
  const gated = matrix(
    2,
    12,
    Float32Array.from({ length: 24 }, (_, i) => Math.sin(i)),
  );
  const sign = [
    [1, 1, 1, 1],
    [1, -1, 1, -1],
    [1, 1, -1, -1],
    [1, -1, -1, 1],
  ];
  const expected = Float32Array.from({ length: 24 }, (_, at) => {
    const from = at - (at % 4);
    return sign[at % 4]!.reduce((sum, s, i) => sum + s * gated.data[from + i]!, 0) / 2;
  });
  const { data } = onlineRotation(gated, { downBlock: 4 });
  expect(largestDifference(data, expected)).toBeLessThan(1e-6); // sums of 4 values below 1
});

test.each([
  { intermediateSize: 768, downBlock: 256 },
  { intermediateSize: 11008, downBlock: 256 },
  { intermediateSize: 14336, downBlock: 1024 },
  { intermediateSize: 172, downBlock: 4 },
])('F $intermediateSize is rotated in blocks of $downBlock', ({ intermediateSize, downBlock }) => {
  expect(onlineHadamard({ ...tinyConfig, intermediateSize })).toEqual({ downBlock });
});

test('an odd F is refused', () => {
  expect(() => onlineHadamard({ ...tinyConfig, intermediateSize: 171 })).toThrow(
    /even intermediate size, found 171/,
  );
});
