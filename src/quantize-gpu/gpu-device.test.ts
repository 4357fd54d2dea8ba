import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { LayerSpec } from '../format/manifest';
import { openNodeGpu } from '../gpu/node';
import { floats, readArtifact } from '../quantize/artifact-reader';
import { runMerge } from '../quantize/assemble';
import { artifactModel, logits } from '../quantize/fake-forward';
import { type PrepareOptions, prepareDefaults, runPrepare } from '../quantize/prepare';
import { writeRandomCheckpoint } from '../quantize/testing';
import { GpuLayerDevice } from './gpu-device';

const folder = mkdtempSync(join(tmpdir(), 'gpu-device-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const gpu = await openNodeGpu();
const text = join(folder, 'text.txt');
const words = 'The ship sailed on 7 seas, and nobody knew why it returned so late; the captain laughed. ';
writeFileSync(text, Array.from({ length: 60 }, (_, i) => words.slice(i % 40)).join('\n'));
const checkpoint = join(folder, 'checkpoint');
writeRandomCheckpoint(checkpoint, { numLayers: 1 }, { outliers: { 3: 16, 17: 24 } });

interface Run {
  readonly out: string;
  readonly device: GpuLayerDevice | null;
}

let count = 0;
async function prepare(options: Partial<PrepareOptions>, residentBytes: number | null): Promise<Run> {
  const out = join(folder, `out-${count++}`);
  const device = residentBytes === null ? null : new GpuLayerDevice(gpu, { residentBytes });
  await runPrepare({
    ...prepareDefaults,
    checkpoint,
    samples: 4,
    sequence: 48,
    calibration: [text],
    ...options,
    ...(device && { device }),
    out,
  });
  return { out, device };
}

const float = await prepare({ scheme: 'fp16' }, null);

/** Root of the mean squared difference of two artifacts' logits, relative to the first's size. */
async function difference(a: string, b: string): Promise<number> {
  const tokens = Array.from({ length: 24 }, (_, i) => 260 + ((i * 37) % 90));
  const [x, y] = await Promise.all(
    [a, b].map(async (out) => (await logits(artifactModel(readArtifact(out)), [tokens]))[0]!.data),
  );
  let [error, size] = [0, 0];
  for (let i = 0; i < x!.length; i++) {
    error += (x![i]! - y![i]!) ** 2;
    size += x![i]! ** 2;
  }
  return Math.sqrt(error / size);
}

/** Part of a tensor's elements that are equal in both artifacts. */
function equalPart(a: string, b: string, name: string): number {
  const [x, y] = [floats(readArtifact(a), name), floats(readArtifact(b), name)];
  expect(x.length).toBe(y.length);
  return x.reduce((sum, value, i) => sum + (value === y[i] ? 1 : 0), 0) / x.length;
}

const cases: [string, Partial<PrepareOptions>][] = [
  [
    'mergequant W4A4, quantized stream, reconstruction, zero points',
    { reconstruct: 'pad', alpha: 2, zeroPoints: true },
  ],
  [
    'mergequant-static W4A8 in segments, float stream',
    { scheme: 'mergequant-static', actBits: 8, reconstruct: 'segment', alpha: 2 },
  ],
  [
    'per-token dynamic, Hadamard, ordered columns',
    { scheme: 'rtn-dynamic', hadamard: true, gptqOrder: true },
  ],
  ['per-tensor static, 3 bits in groups', { scheme: 'tensor-static', weightBits: 3, groupSize: 32 }],
];

test.each(cases)('%s: the GPU prepares what the host prepares', async (_, options) => {
  const host = await prepare({ ...options, weights: 'gptq' }, null);
  const gpuRun = await prepare({ ...options, weights: 'gptq' }, 2 ** 30);
  const { quant } = readArtifact(host.out).manifest;
  const { quant: gpuQuant, provenance } = readArtifact(gpuRun.out).manifest;
  expect(provenance.device).toBe('gpu');
  for (const [name, value] of Object.entries(quant!.layers[0]!)) {
    const own = gpuQuant!.layers[0]![name as keyof LayerSpec];
    // flags and widths are equal; steps and ratios are, too, or a neighbour on their grid where two are as good
    if (typeof value === 'number') expect(Math.abs((own as number) - value)).toBeLessThan(0.11 * value);
    else expect(own).toBe(value);
  }
  // The first linear has the same inputs. Codes differ on a boundary of rounding, and behind it in that row; what later
  // linears see depends on that.
  expect(equalPart(host.out, gpuRun.out, 'layers.0.qkv.weight')).toBeGreaterThan(0.98);
  // equal quality: as far from the float model as the host's artifact, within a twentieth
  const [lost, lostGpu] = [await difference(float.out, host.out), await difference(float.out, gpuRun.out)];
  expect(lostGpu).toBeLessThan(1.05 * lost);
});

test('spilled activations give the same bytes as resident ones, and leave nothing behind', async () => {
  const spill = mkdtempSync(join(folder, 'spill-'));
  const resident = await prepare({ weights: 'gptq' }, 2 ** 30);
  const inMemory = await prepare({ weights: 'gptq' }, 0);
  const inFiles = await prepare({ weights: 'gptq', spill }, 40_000);
  const shard = (run: Run) => readFileSync(join(run.out, 'shard-00001.safetensors'));
  expect(shard(inMemory).equals(shard(resident))).toBe(true);
  expect(shard(inFiles).equals(shard(resident))).toBe(true);
  expect(readdirSync(spill)).toEqual([]);
  expect(inMemory.device!.work.bytes).toBe(resident.device!.work.bytes);
});

test('parts that follow one another on the GPU merge into what one whole run writes, byte for byte', async () => {
  const two = join(folder, 'two-layers');
  writeRandomCheckpoint(two, { numLayers: 2 });
  const options = {
    checkpoint: two,
    weights: 'gptq',
    propagate: 'quantized',
    samples: 2,
    prefix: 1,
  } as const;
  const whole = await prepare(options, 2 ** 30);
  const parts = [await prepare({ ...options, layers: [0, 1] }, 2 ** 30)];
  parts.push(await prepare({ ...options, layers: [1, 2], after: [parts[0]!.out] }, 2 ** 30));
  const out = join(folder, 'merged');
  await runMerge({ checkpoint: two, out, parts: parts.map((part) => part.out) });
  for (const name of readdirSync(whole.out)) {
    expect(readFileSync(join(out, name)).equals(readFileSync(join(whole.out, name)))).toBe(true);
  }
});
