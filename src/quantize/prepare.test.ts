import { describe, expect, test } from 'vitest';
import type { LlamaConfig } from '../format/config';
import { readArtifact } from './artifact-reader';
import { artifactModel, logits } from './fake-forward';
import { type PrepareOptions, runPrepare } from './prepare';
import { PrepareFolder } from './prepare-testing';
import type { RandomCheckpointOptions } from './testing';

const folder = new PrepareFolder('prepare');

const probe = [Array.from({ length: 24 }, (_, t) => (t === 0 ? 1 : (t * 83) % 512))];

/** Cosine of the quantized model's logits with those of the same checkpoint's fp16 artifact. */
async function similarity(options: PrepareOptions): Promise<number> {
  const reference = { ...options, scheme: 'fp16', out: folder.freshPath() } as const;
  await runPrepare(reference);
  const [a, b] = [options.out, reference.out].map((out) => artifactModel(readArtifact(out)));
  const x = (await logits(a!, probe))[0]!.data;
  const y = (await logits(b!, probe))[0]!.data;
  const dot = (u: Float32Array, v: Float32Array) => u.reduce((sum, value, i) => sum + value * v[i]!, 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
}

const outliers = { 3: 24, 17: 40 };

describe('every scheme, source and mode makes a whole artifact that computes what the checkpoint does', () => {
  // A random two-layer model amplifies rounding more than a trained one: 4-bit activations land near 0.95, 8-bit near
  // 0.98. A wrong scale, gather, fold or order gives about 0.
  test.each<{
    label: string;
    config?: Partial<LlamaConfig>;
    random?: RandomCheckpointOptions;
    options: Partial<PrepareOptions>;
    least: number;
  }>([
    {
      label: 'rtn-dynamic, F16, 2 shards',
      random: { shards: 2 },
      options: { scheme: 'rtn-dynamic' },
      least: 0.9,
    },
    { label: 'rtn-dynamic uncalibrated', options: { scheme: 'rtn-dynamic', calibration: [] }, least: 0.85 },
    {
      label: 'tensor-static, F32',
      random: { dtype: 'F32' },
      options: { scheme: 'tensor-static' },
      least: 0.85,
    },
    {
      label: 'mergequant, BF16, 3 shards, outliers',
      random: { dtype: 'BF16', shards: 3, outliers },
      options: {},
      least: 0.9,
    },
    {
      label: 'mergequant, 8 bits, tied, biases, llama3 rope',
      config: {
        tieWordEmbeddings: true,
        attentionBias: true,
        mlpBias: true,
        ropeScaling: {
          type: 'llama3',
          factor: 8,
          lowFreqFactor: 1,
          highFreqFactor: 4,
          originalMaxPositionEmbeddings: 64,
        },
      },
      options: { actBits: 8 },
      least: 0.95,
    },
    {
      label: 'mergequant, segment, 4 bits, outliers',
      random: { outliers },
      options: { reconstruct: 'segment', alpha: 2 },
      least: 0.9,
    },
    {
      label: 'mergequant, segment, 8 bits, outliers',
      random: { outliers },
      options: { reconstruct: 'segment', alpha: 2, actBits: 8 },
      least: 0.95,
    },
    {
      label: 'mergequant, prune, outliers',
      random: { outliers },
      options: { reconstruct: 'prune', alpha: 2 },
      least: 0.7,
    },
    { label: 'mergequant, none', options: { reconstruct: 'none' }, least: 0.9 },
    {
      label: 'mergequant-static, GQA, biases',
      config: { attentionBias: true, mlpBias: true },
      options: { scheme: 'mergequant-static' },
      least: 0.85,
    },
    {
      label: 'mergequant-static, 8 bits, one head, ragged sizes',
      config: { hiddenSize: 50, numHeads: 5, numKvHeads: 5, headDim: 6, intermediateSize: 33 },
      options: { scheme: 'mergequant-static', actBits: 8 },
      least: 0.95,
    },
  ])('$label', async ({ config = {}, random = {}, options, least }) => {
    const prepared = folder.setup(config, random, options);
    const summary = await runPrepare(prepared);
    folder.expectWholeArtifact(prepared.out);
    expect(summary.layers.length).toBe(2);
    expect(await similarity(prepared)).toBeGreaterThan(least);
  });
});

test('the same input gives the same bytes, another seed another calibration', async () => {
  const options = folder.setup({}, {}, {});
  await runPrepare(options);
  const again = { ...options, out: folder.freshPath() };
  await runPrepare(again);
  const hashes = (out: string) => readArtifact(out).manifest.shards.map(({ sha256 }) => sha256);
  expect(hashes(again.out)).toEqual(hashes(options.out));
  const other = { ...options, out: folder.freshPath(), seed: 2 };
  await runPrepare(other);
  expect(hashes(other.out)).not.toEqual(hashes(options.out));
});
