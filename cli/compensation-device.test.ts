import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readArtifact } from '../src/quantize/artifact-reader';
import { compensationDefaults } from '../src/quantize/compensate';
import { prepareDefaults, runPrepare } from '../src/quantize/prepare';
import { writeRandomCheckpoint } from '../src/quantize/testing';
import { compensationRun } from './compensation';

const folder = mkdtempSync(join(tmpdir(), 'compensation-device-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('training on WebGPU beside a host that quantizes lowers the loss, and the artifact is whole', async () => {
  const checkpoint = join(folder, 'checkpoint');
  writeRandomCheckpoint(checkpoint, { numLayers: 1 }, { outliers: { 3: 16 } });
  const text = join(folder, 'text.txt');
  writeFileSync(
    text,
    Array.from({ length: 60 }, (_, i) => `Day ${i}: the wind came from ${i * 37}°.`).join('\n'),
  );
  const losses: number[] = [];
  const settings = { ...compensationDefaults, epochs: 6, batchRows: 2, device: 'webgpu' } as const;
  const run = await compensationRun(settings);
  const onEpoch = (_layer: number, _epoch: number, _epochs: number, loss: number) => losses.push(loss);
  const method = { ...prepareDefaults, hadamard: true, weights: 'rtn' } as const;
  const sizes = { samples: 8, sequence: 24, calibration: [text] };
  const out = join(folder, 'artifact');
  await runPrepare({ ...method, ...sizes, checkpoint, compensation: { ...run, onEpoch }, out });
  expect(losses).toHaveLength(6);
  expect(losses[5]).toBeLessThan(0.95);
  expect(losses[5]).toBeLessThan(losses[0]!);
  expect(readArtifact(out).manifest.provenance.compensation).toEqual(settings);
});
