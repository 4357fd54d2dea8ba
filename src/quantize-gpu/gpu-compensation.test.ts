import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { nodeGpuEntry, openNodeGpu } from '../gpu/node';
import { floats, readArtifact } from '../quantize/artifact-reader';
import { compensationDefaults } from '../quantize/compensate';
import { type PrepareOptions, prepareDefaults, runPrepare } from '../quantize/prepare';
import { writeRandomCheckpoint } from '../quantize/testing';
import { GpuLayerDevice } from './gpu-device';

const folder = mkdtempSync(join(tmpdir(), 'gpu-compensation-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const gpu = await openNodeGpu();
const entry = await nodeGpuEntry(); // jax-js looks for WebGPU where a browser has it
Object.defineProperty(globalThis, 'navigator', {
  value: { userAgent: 'Node', gpu: entry },
  configurable: true,
});

const checkpoint = join(folder, 'checkpoint');
writeRandomCheckpoint(checkpoint, { numLayers: 2 });
const text = join(folder, 'text.txt');
writeFileSync(
  text,
  Array.from({ length: 80 }, (_, i) => `Day ${i}: ${i * 37} gulls, wind from ${i * 11}°.`).join('\n'),
);

/** Losses of each epoch relative to the loss before it, layer by layer, and the artifact's folder. */
async function prepare(name: string, options: Partial<PrepareOptions>, epochs: number) {
  const losses: number[] = [];
  const out = join(folder, name);
  const settings = { ...compensationDefaults, rank: 4, epochs, rate: 0.01, device: 'webgpu' as const };
  await runPrepare({
    ...prepareDefaults,
    ...{ checkpoint, out, samples: 4, sequence: 32, calibration: [text], weights: 'rtn' as const },
    ...options,
    ...(epochs > 0 && {
      compensation: { settings, sequences: 3, onEpoch: (_l, _e, _n, loss) => losses.push(loss) },
    }),
  });
  return { losses, out };
}

test('layers calibrated and trained on the GPU lose error epoch by epoch, and what was trained is stored', async () => {
  const device = new GpuLayerDevice(gpu, { residentBytes: 2 ** 28 });
  const plain = await prepare('plain', { device, propagate: 'quantized' }, 0);
  const trained = await prepare('trained', { device }, 3);
  expect(trained.losses).toHaveLength(3 * 2);
  expect(trained.losses[2]!).toBeLessThan(trained.losses[0]!);
  expect(trained.losses[5]!).toBeLessThan(trained.losses[3]!);
  for (const layer of [0, 1]) {
    const codes = ({ out }: { out: string }) => floats(readArtifact(out), `layers.${layer}.down.weight`);
    expect(codes(trained)).not.toEqual(codes(plain));
  }
});
