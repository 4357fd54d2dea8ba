import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Checkpoint } from '../src/quantize/checkpoint';
import { writeBenchCheckpoint } from './prepare-checkpoint.node';
import { oneLayer } from './prepare-layer.node';
import { shapeOf } from './shapes';

const folder = mkdtempSync(join(tmpdir(), 'bench-checkpoint-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('the benchmark checkpoint is one that prepare reads, with some strong channels and rows of their own', async () => {
  const config = oneLayer(shapeOf('tiny'));
  const bytes = writeBenchCheckpoint(folder, config, 1);
  const checkpoint = await Checkpoint.open(folder);
  expect(checkpoint.config).toMatchObject({ numLayers: 1, hiddenSize: 256, intermediateSize: 768 });
  const { qkv, gateUp } = await checkpoint.layer(0);
  const { hiddenSize: D, vocabSize } = config;
  expect(bytes).toBe(2 * (2 * vocabSize * D + 4 * D * D + 3 * D * config.intermediateSize + 3 * D));
  expect(qkv.weight.data.subarray(0, D)).not.toEqual(qkv.weight.data.subarray(D, 2 * D));
  const square = gateUp.weight.data.reduce((sum, v) => sum + v * v, 0) / gateUp.weight.data.length;
  expect(square * D).toBeGreaterThan(0.9);
  expect(square * D).toBeLessThan(1.1);
  const embedding = await checkpoint.tensor('embed.weight');
  const most = Float32Array.from({ length: D }, (_, k) =>
    embedding.reduce((m, v, i) => (i % D === k ? Math.max(m, Math.abs(v)) : m), 0),
  ).sort();
  expect(most[D - 1]! / most[D / 2]!).toBeGreaterThan(10);
  await checkpoint.close();
});
