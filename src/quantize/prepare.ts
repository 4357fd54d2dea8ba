/** From a Hugging Face Llama folder to an artifact, one layer at a time. Node only. */
import { basename, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { version } from '../../package.json';
import type { FileEntry, LayerSpec, Manifest, QuantSpec } from '../format/manifest';
import type { ActBits, SchemeName } from '../format/scheme';
import { ArtifactWriter } from './artifact-writer';
import type { CalibrationSet } from './calibration-data';
import { Checkpoint } from './checkpoint';
import { splitSpecs, writeDense, writeLayer } from './export';
import { LayerCalibrator } from './layer-calibrator';
import { parseTokenizer, readCalibration, readTokenizerFiles } from './prepare-inputs';
import {
  calibratorOptions,
  clipLossOf,
  methodOf,
  type PrepareOptions,
  weightMethodOf,
} from './prepare-options';
import { quantizeLayer } from './quantize-layer';
import { RotatedCheckpoint, type WeightSource } from './rotate';

export * from './prepare-options';

export interface PrepareSummary {
  readonly out: string;
  readonly name: string;
  readonly scheme: SchemeName;
  readonly actBits: ActBits | null;
  /** All files but the manifest. */
  readonly bytes: number;
  readonly shards: number;
  readonly calibrationTokens: number;
  readonly layers: readonly LayerSpec[];
  readonly seconds: number;
}

/** Told after each finished layer. */
export type OnLayer = (done: number, total: number) => void;

/** Quantizes and writes the layers one after the other. @returns their specs. */
async function writeQuantizedLayers(
  writer: ArtifactWriter,
  checkpoint: WeightSource,
  set: CalibrationSet | null,
  options: PrepareOptions,
  onLayer: OnLayer,
): Promise<QuantSpec> {
  const { config } = checkpoint;
  const method = methodOf(options, config, set !== null);
  const { reconstruct, hadamard } = method;
  const calibrator =
    set && (await LayerCalibrator.create(checkpoint, set, calibratorOptions(options, method)));
  const layers: LayerSpec[] = [];
  const quantSoFar = (): QuantSpec => ({
    actBits: options.actBits,
    weightBits: 4,
    reconstruct,
    alpha: reconstruct === 'none' ? null : options.alpha,
    hadamard,
    layers,
  });
  for (let index = 0; index < config.numLayers; index++) {
    const weights = await checkpoint.layer(index);
    const calibrated = await calibrator?.layer(weights);
    const { stats = null, walk = null } = calibrated ?? {};
    const quantized = await quantizeLayer(weights, stats, config, method, walk);
    layers.push(quantized.spec);
    const layout = { config, scheme: options.scheme, quant: quantSoFar(), denseDtype: 'F16' as const };
    await writeLayer(writer, quantized, splitSpecs(layout).layers[index]!);
    onLayer(index + 1, config.numLayers);
  }
  calibrator?.dispose();
  return quantSoFar();
}

function provenance(options: PrepareOptions, set: CalibrationSet | null): Record<string, unknown> {
  const { samples, seed } = options;
  return {
    tool: `mergequant-web ${version}`,
    checkpoint: basename(resolve(options.checkpoint)),
    weights: options.scheme === 'fp16' ? 'float16' : weightMethodOf(options, set !== null),
    ...(set && {
      calibration: {
        files: set.files,
        sequences: set.sequences.length,
        tokens: set.tokens,
        samples,
        sequence: Math.max(...set.sequences.map(({ length }) => length)),
        seed,
        clipLoss: clipLossOf(options),
      },
    }),
  };
}

async function writeArtifact(
  writer: ArtifactWriter,
  checkpoint: WeightSource,
  options: PrepareOptions,
  onLayer: OnLayer,
): Promise<{ readonly manifest: Manifest; readonly calibrationTokens: number }> {
  const { config } = checkpoint;
  const { scheme } = options;
  const files = await readTokenizerFiles(checkpoint.folder);
  const tokenizer = parseTokenizer(files);
  const set = scheme === 'fp16' ? null : await readCalibration(options, tokenizer, checkpoint);
  const specs = splitSpecs({ config, scheme: 'fp16', quant: null, denseDtype: 'F16' });
  await writeDense(writer, checkpoint, specs.before);
  let quant: QuantSpec | null = null;
  if (scheme === 'fp16') {
    for (const [index, own] of specs.layers.entries()) {
      await writeDense(writer, checkpoint, own);
      await setImmediate();
      onLayer(index + 1, config.numLayers);
    }
  } else quant = await writeQuantizedLayers(writer, checkpoint, set, options, onLayer);
  await writeDense(writer, checkpoint, specs.after);
  const tokenizerFiles: FileEntry[] = [...files].map(([name, bytes]) => writer.addFile(name, bytes));
  const manifest = writer.finish({
    format: 'mergequant',
    version: 1,
    name:
      options.name ??
      `${basename(resolve(options.checkpoint))} ${scheme}${quant?.hadamard ? ' hadamard' : ''}`,
    config,
    scheme,
    quant,
    denseDtype: 'F16',
    tokenizerFiles,
    provenance: provenance(options, set),
  });
  return { manifest, calibrationTokens: set?.tokens ?? 0 };
}

/**
 * Prepares an artifact. The checkpoint is checked before anything is written; the output folder appears whole or not at
 * all. Memory: one layer in float32, one shard, and the calibration tokens' hidden states (tokens · hidden size · 4 bytes).
 * @throws FormatError, TokenizerError, CalibrationMissingError, CalibrationDataError or OutputError; RangeError for rotations
 *   of fp16 or of odd sizes
 */
export async function runPrepare(
  options: PrepareOptions,
  onLayer: OnLayer = () => {},
): Promise<PrepareSummary> {
  const start = performance.now();
  if (options.hadamard && options.scheme === 'fp16') {
    throw new RangeError('Hadamard variant: expected a quantized scheme, found fp16');
  }
  const checkpoint = await Checkpoint.open(options.checkpoint);
  try {
    const writer = new ArtifactWriter(options.out, options);
    try {
      const source = options.hadamard ? new RotatedCheckpoint(checkpoint, options.seed) : checkpoint;
      const { manifest, calibrationTokens } = await writeArtifact(writer, source, options, onLayer);
      const files = [...manifest.shards, ...manifest.tokenizerFiles];
      return {
        out: options.out,
        name: manifest.name,
        scheme: manifest.scheme,
        actBits: manifest.quant?.actBits ?? null,
        bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
        shards: manifest.shards.length,
        calibrationTokens,
        layers: manifest.quant?.layers ?? [],
        seconds: (performance.now() - start) / 1000,
      };
    } finally {
      writer.discard();
    }
  } finally {
    await checkpoint.close();
  }
}
