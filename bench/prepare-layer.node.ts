/** Prepares one layer of a model's shape as `mergequant prepare` does, and says how long each stage took. Node only. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LlamaConfig } from '../src/format/config';
import type { Gpu } from '../src/gpu/gpu';
import type { CompensationRun } from '../src/quantize/layer-compensator';
import { type PrepareOptions, prepareDefaults, runPrepare } from '../src/quantize/prepare';
import { Stopwatch } from '../src/quantize/stopwatch';
import { GpuLayerDevice } from '../src/quantize-gpu/gpu-device';
import { MemoryWatch, type PeakMemory } from './memory-watch.node';
import { writeBenchCheckpoint, writeBenchText } from './prepare-checkpoint.node';

export interface PrepareBenchRequest {
  readonly config: LlamaConfig;
  readonly samples: number;
  readonly sequence: number;
  readonly residentGiB: number;
  readonly prepare: Partial<PrepareOptions>;
  readonly compensation?: CompensationRun;
}

/** Stages of src/quantize/stopwatch.ts that belong to calibration: scales, clipping and reconstruction come with `clip`. */
const calibrationStages = ['read', 'upload', 'calibrate', 'clip'];

export interface PrepareBenchResult {
  readonly layerBytes: number;
  readonly tokens: number;
  /** Stages of one layer; `start` is what is done once a run: opening, embedding the tokens, tokenizer, the dense tensors. */
  readonly seconds: Readonly<Record<string, number>>;
  readonly calibrationSeconds: number;
  readonly layerSeconds: number;
  readonly wholeSeconds: number;
  readonly peak: PeakMemory & { readonly gpuBuffersBytes: number };
  readonly artifactBytes: number;
}

/** The shape cut to one layer and to the tokens that the bench's tokenizer has. */
export function oneLayer(config: LlamaConfig): LlamaConfig {
  return { ...config, numLayers: 1, vocabSize: 512, bosTokenId: 1, eosTokenIds: [2] };
}

export async function benchPrepare(gpu: Gpu, request: PrepareBenchRequest): Promise<PrepareBenchResult> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-prepare-'));
  try {
    const config = oneLayer(request.config);
    const checkpoint = join(folder, 'checkpoint');
    const text = join(folder, 'text.txt');
    writeBenchCheckpoint(checkpoint, config, 1);
    writeBenchText(text, 2 * request.samples * request.sequence, 2);
    return await measure(gpu, request, folder, checkpoint, text);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(
  gpu: Gpu,
  request: PrepareBenchRequest,
  folder: string,
  checkpoint: string,
  text: string,
): Promise<PrepareBenchResult> {
  const { samples, sequence, residentGiB, prepare, compensation } = request;
  const stopwatch = new Stopwatch();
  const device = new GpuLayerDevice(gpu, { residentBytes: residentGiB * 2 ** 30, stopwatch });
  const memory = new MemoryWatch();
  const start = performance.now();
  const summary = await runPrepare({
    ...prepareDefaults,
    ...prepare,
    checkpoint,
    out: join(folder, 'artifact'),
    calibration: [text],
    samples,
    sequence,
    device,
    stopwatch,
    ...(compensation && { compensation }),
  });
  const wholeSeconds = (performance.now() - start) / 1000;
  const { seconds } = stopwatch;
  const layerSeconds = Object.values(seconds).reduce((sum, value) => sum + value, 0);
  const calibrationSeconds = calibrationStages.reduce((sum, stage) => sum + (seconds[stage] ?? 0), 0);
  return {
    layerBytes: statSync(join(checkpoint, 'model.safetensors')).size,
    tokens: summary.calibrationTokens,
    seconds: { ...seconds, start: wholeSeconds - layerSeconds },
    calibrationSeconds,
    layerSeconds,
    wholeSeconds,
    peak: { ...memory.stop(), gpuBuffersBytes: device.work.peakBytes },
    artifactBytes: summary.bytes,
  };
}
