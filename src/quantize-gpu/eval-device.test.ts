import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openNodeGpu } from '../gpu/node';
import { EvalRun } from '../quantize/run-eval';
import { writeRandomCheckpoint } from '../quantize/testing';
import { GpuLayerDevice } from './gpu-device';

const folder = mkdtempSync(join(tmpdir(), 'eval-device-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const device = new GpuLayerDevice(await openNodeGpu(), { residentBytes: 2 ** 28 });

test.each([
  ['8-bit activations, RTN, zero points', { actBits: 8, weights: 'rtn', zeroPoints: true }],
  ['4-bit activations, RTN, Hadamard, float BOS', { hadamard: true, weights: 'rtn', prefix: 1 }],
] as const)('%s: the GPU measures what the host measures', async (label, options) => {
  const checkpoint = join(folder, 'checkpoint');
  writeRandomCheckpoint(checkpoint, {}, { outliers: { 3: 16 } });
  const write = (name: string, line: (i: number) => string) => {
    writeFileSync(join(folder, name), Array.from({ length: 40 }, (_, i) => line(i)).join('\n'));
    return join(folder, name);
  };
  const shared = {
    checkpoint,
    text: [
      write('test.txt', (i) => `In year ${1800 + i} nobody counted the whales, but ${i * i} were seen.`),
    ],
    calibration: [
      write('calibration.txt', (i) => `Day ${i}: the wind came from ${i * 37}°, on went the ship.`),
    ],
    samples: 6,
    window: 48,
    maxWindows: 4,
  };
  const measure = async (own: { device?: GpuLayerDevice }) => {
    const run = await EvalRun.create({ ...shared, ...own });
    try {
      const row = await run.row({ label, options: { scheme: 'mergequant', sequence: 48, ...options } }, 1);
      return { ...row, float: run.float() };
    } finally {
      await run.close();
    }
  };
  const [host, gpu] = [await measure({}), await measure({ device })];
  // float32 sums of at most 172 products in another order, two layers
  expect(Math.abs(gpu.float.ppl / host.float.ppl - 1)).toBeLessThan(1e-5);
  for (const [layer, ratios] of host.float.outlierRatios.entries()) {
    for (const site of ['attn', 'o', 'mlp', 'down'] as const) {
      expect(Math.abs(gpu.float.outlierRatios[layer]![site] / ratios[site] - 1)).toBeLessThan(1e-4);
    }
  }
  // integers on a rounding boundary may fall to either side, and what is behind them follows: the sizes agree, not the bits
  expect(Math.abs(gpu.ppl / host.ppl - 1)).toBeLessThan(0.01);
  expect(Math.abs(gpu.kl / host.kl - 1)).toBeLessThan(0.2);
  expect(gpu.layerErrors).toHaveLength(2);
  gpu.layerErrors.forEach((error, layer) => {
    expect(Math.abs(error / host.layerErrors[layer]! - 1)).toBeLessThan(0.1);
  });
});
