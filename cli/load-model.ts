/** Loads an artifact or a plain Hugging Face folder onto this machine's GPU. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Engine } from '../src/engine/engine';
import type { EngineOptions } from '../src/engine/options';
import { FormatError } from '../src/format/errors';
import { f32ToF16Bits } from '../src/format/half';
import type { Manifest } from '../src/format/manifest';
import { parseSafetensorsHeader } from '../src/format/safetensors';
import { ShardTensorCheck } from '../src/format/shard-tensors';
import { defaultMaxTensorBytes } from '../src/format/shards';
import { type ModelLayout, storedTensors, tensorSpecs } from '../src/format/tensors';
import type { Gpu } from '../src/gpu/gpu';
import { openNodeGpu } from '../src/gpu/node';
import type { ModelWeights } from '../src/model/weights';
import { WeightsLoader } from '../src/model/weights-loader';
import { Checkpoint } from '../src/quantize/checkpoint';
import { ChatTokenizer } from '../src/tokenizer';
import { readArtifactFile, readManifest } from './artifact-folder';
import { tokenizerDeadlineMs, withDeadline } from './deadline';

export interface LoadedModel {
  readonly engine: Engine;
  readonly tokenizer: ChatTokenizer;
  /** The scheme's name and activation bits, e.g. `mergequant W4A4`, `fp16`. */
  readonly scheme: string;
}

export interface LoadOptions extends EngineOptions {
  /** Debug: a layer that every pass holds against the float64 reference. */
  readonly checkLayer?: number;
}

/** Files a tokenizer is made of, in artifacts and checkpoints alike. */
const tokenizerFiles = [
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja',
];

/**
 * Opens the GPU and loads the model in `folder`: an artifact when it has a manifest, else an unquantized checkpoint.
 * @throws FormatError and its kinds, WebGpuUnavailableError, GpuMemoryError, NoSuchLayerError
 */
export async function loadModel(folder: string, options: LoadOptions = {}): Promise<LoadedModel> {
  const isArtifact = existsSync(join(folder, 'manifest.json'));
  if (!isArtifact && !existsSync(join(folder, 'config.json'))) {
    const expected = 'an artifact (manifest.json) or a Hugging Face checkpoint (config.json)';
    throw new FormatError(`${folder}: expected ${expected}, found neither`);
  }
  const tokenizer = await loadTokenizer(folder);
  const gpu = await openNodeGpu();
  const weights = isArtifact
    ? await loadArtifact(gpu, folder, options.checkLayer, Boolean(options.persistentDecode))
    : await loadCheckpoint(gpu, folder, options.checkLayer);
  const { scheme, quant } = weights.layout;
  const engine = await Engine.create(gpu, weights, options);
  return { engine, tokenizer, scheme: quant ? `${scheme} W${quant.weightBits}A${quant.actBits}` : scheme };
}

async function loadTokenizer(folder: string): Promise<ChatTokenizer> {
  const texts = new Map<string, string>();
  for (const name of tokenizerFiles) {
    if (existsSync(join(folder, name))) texts.set(name, await readFile(join(folder, name), 'utf8'));
  }
  return ChatTokenizer.fromFiles(texts, withDeadline(tokenizerDeadlineMs));
}

/** Every shard is checked against its SHA-256 and the exact tensor set before it is uploaded. */
export async function loadArtifact(
  gpu: Gpu,
  folder: string,
  checkLayer?: number,
  isPacked = false,
): Promise<ModelWeights> {
  const manifest: Manifest = await readManifest(folder);
  const check = new ShardTensorCheck(manifest);
  const loader = WeightsLoader.create(gpu, manifest, checkLayer, isPacked);
  try {
    for (const shard of manifest.shards) {
      const bytes = await readArtifactFile(folder, shard.name);
      const header = parseSafetensorsHeader(bytes, bytes.byteLength, shard.name);
      for (const { stored, begin, end } of check.add({ file: shard.name, header })) {
        loader.write(stored, bytes.subarray(begin, end));
      }
    }
    check.finish();
    return await loader.finish();
  } catch (error) {
    loader.destroy();
    throw error;
  }
}

/** A checkpoint as it is: float16 stays float16; float32 and bfloat16 become float32, which loses nothing. */
async function loadCheckpoint(gpu: Gpu, folder: string, checkLayer?: number): Promise<ModelWeights> {
  const checkpoint = await Checkpoint.open(folder);
  try {
    const matrices = [...checkpoint.tensors.values()].filter(({ shape }) => shape.length === 2);
    const denseDtype = matrices.every(({ dtype }) => dtype === 'F16') ? 'F16' : 'F32';
    const layout: ModelLayout = { config: checkpoint.config, scheme: 'fp16', quant: null, denseDtype };
    const loader = WeightsLoader.create(gpu, layout, checkLayer);
    try {
      for (const stored of storedTensors(tensorSpecs(layout), defaultMaxTensorBytes)) {
        const values = await checkpoint.rows(stored.tensor.name, stored.rowStart, stored.rows);
        const data = stored.tensor.dtype === 'F16' ? f32ToF16Bits(values) : values;
        loader.write(stored, new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength));
      }
      return await loader.finish();
    } catch (error) {
      loader.destroy();
      throw error;
    }
  } finally {
    await checkpoint.close();
  }
}
