/** From a Hugging Face Llama folder to an artifact, one layer at a time. Node only. */
import { basename, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { version } from '../../package.json';
import type { LlamaConfig } from '../format/config';
import { FormatError } from '../format/errors';
import type { FileEntry, LayerSpec, Manifest, QuantSpec } from '../format/manifest';
import type { ActBits, SchemeName } from '../format/scheme';
import { ArtifactWriter, type ArtifactWriterOptions } from './artifact-writer';
import type { CalibrationSet } from './calibration-data';
import { Checkpoint } from './checkpoint';
import { splitSpecs, writeDense, writeLayer } from './export';
import { LayerCalibrator } from './layer-calibrator';
import { hostStream, LayerCompensator } from './layer-compensator';
import type { Calibrator } from './layer-device';
import { copyTensors, orderParts, readPart } from './parts';
import { parseTokenizer, readCalibration, readTokenizerFiles } from './prepare-inputs';
import {
  calibratorOptions,
  clipLossOf,
  gptqTargetOf,
  methodOf,
  type PrepareOptions,
  propagationOf,
  weightGridOf,
  weightMethodOf,
} from './prepare-options';
import { CalibrationMissingError, type Method, quantizeLayer } from './quantize-layer';
import { RotatedCheckpoint, type WeightSource } from './rotate';
import { Stopwatch } from './stopwatch';

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

function quantSpec(options: PrepareOptions, method: Method, layers: readonly LayerSpec[]): QuantSpec {
  const { reconstruct, hadamard } = method;
  const alpha = reconstruct === 'none' ? null : options.alpha;
  const grid = method.weightGrid ?? null;
  const weightGrid = grid && { groupSize: grid.groupSize };
  const { actBits } = options;
  const zeros = method.zeroPoints ? ({ zeroPoints: true } as const) : {};
  return { actBits, weightBits: grid?.bits ?? 4, weightGrid, reconstruct, alpha, hadamard, ...zeros, layers };
}

/** Stored tensors of one layer, whose spec is the only one that must be known. */
function layerTensors(
  manifest: Pick<Manifest, 'config' | 'scheme'>,
  quant: QuantSpec,
  index: number,
  spec: LayerSpec,
) {
  const layers = Array.from({ length: manifest.config.numLayers }, () => spec);
  return splitSpecs({ ...manifest, quant: { ...quant, layers }, denseDtype: 'F16' }).layers[index]!;
}

/** The host's, or the device's. */
export async function calibratorOf(
  checkpoint: WeightSource,
  set: CalibrationSet,
  options: PrepareOptions,
  method: Method,
): Promise<Calibrator> {
  const settings = calibratorOptions(options, method);
  if (options.device) return options.device.calibrator(checkpoint, set, settings);
  const host = await LayerCalibrator.create(checkpoint, set, settings);
  const { config } = checkpoint;
  return {
    layer: async (weights) => {
      const { stats, walk } = await host.layer(weights);
      const streams = options.compensation && walk && hostStream(walk.hidden, host.hidden, config, method);
      return { stats, walk, stream: streams ?? null };
    },
    dispose: () => host.dispose(),
  };
}

/** Quantizes and writes the layers of the range one after the other. @returns their specs */
async function writeQuantizedLayers(
  writer: ArtifactWriter,
  checkpoint: WeightSource,
  set: CalibrationSet | null,
  options: PrepareOptions,
  onLayer: OnLayer,
): Promise<QuantSpec> {
  const { config } = checkpoint;
  const [from, end] = options.layers ?? [0, config.numLayers];
  const method = methodOf(options, config, set !== null);
  const calibrator = set && (await calibratorOf(checkpoint, set, options, method));
  const compensator = options.compensation && new LayerCompensator(options.compensation, config, method);
  const layers: LayerSpec[] = [];
  const { stopwatch: watch = new Stopwatch() } = options;
  for (let index = 0; index < end; index++) {
    const weights = await watch.time('read', () => checkpoint.layer(index));
    const calibrated = await watch.time('calibrate', async () => calibrator?.layer(weights));
    if (index >= from) {
      const { stats = null, walk = null, stream = null } = calibrated ?? {};
      const quantize = () =>
        watch.time('quantize', () => quantizeLayer(weights, stats, config, method, walk));
      const quantized = await (compensator && stream
        ? watch.time('compensate', () => compensator.onStream(index, stream, quantize))
        : quantize());
      const specs = layerTensors(
        { config, scheme: options.scheme },
        quantSpec(options, method, []),
        index,
        quantized.spec,
      );
      await watch.time('write', () => writeLayer(writer, quantized, specs));
      layers.push(quantized.spec);
    }
    onLayer(index + 1, end);
  }
  calibrator?.dispose();
  return quantSpec(options, method, layers);
}

function provenance(options: PrepareOptions, set: CalibrationSet | null): Record<string, unknown> {
  const { samples, seed } = options;
  return {
    tool: `mergequant-web ${version}`,
    checkpoint: basename(resolve(options.checkpoint)),
    weights: options.scheme === 'fp16' ? 'float16' : weightMethodOf(options, set !== null),
    ...(set &&
      weightMethodOf(options, true) === 'gptq' && {
        gptq: {
          target: gptqTargetOf(options),
          order: options.gptqOrder ?? false,
          propagate: propagationOf(options),
        },
      }),
    ...(options.compensation && {
      compensation: { ...options.compensation.settings, sequences: options.compensation.sequences },
    }),
    ...(options.device && { device: options.device.name }),
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

interface Written {
  readonly manifest: Pick<Manifest, 'name' | 'scheme' | 'quant' | 'shards'> &
    Partial<Pick<Manifest, 'tokenizerFiles'>>;
  readonly calibrationTokens: number;
}

function artifactName(options: PrepareOptions, quant: QuantSpec | null): string {
  const kind = `${options.scheme}${quant?.hadamard ? ' hadamard' : ''}`;
  return options.name ?? `${basename(resolve(options.checkpoint))} ${kind}`;
}

async function writeArtifact(
  writer: ArtifactWriter,
  checkpoint: WeightSource,
  options: PrepareOptions,
  onLayer: OnLayer,
): Promise<Written> {
  const { config } = checkpoint;
  const { scheme, seed } = options;
  const files = await readTokenizerFiles(checkpoint.folder, options.greedy);
  const set = scheme === 'fp16' ? null : await readCalibration(options, parseTokenizer(files), checkpoint);
  const tables = tableBits(options, config);
  const common = { config, scheme, ...tables, provenance: provenance(options, set) };
  const calibrationTokens = set?.tokens ?? 0;
  if (options.layers) {
    const quant = await writeQuantizedLayers(writer, checkpoint, set, options, onLayer);
    const name = artifactName(options, quant);
    const { layers: range } = options;
    return {
      manifest: writer.finishPart({ format: 'mergequant-part', name, range, quant, seed, ...common }),
      calibrationTokens,
    };
  }
  const specs = splitSpecs({ config, scheme: 'fp16', quant: null, denseDtype: 'F16', ...tables });
  await writeDense(writer, checkpoint, specs.before);
  let quant: QuantSpec | null = null;
  if (scheme === 'fp16') {
    for (const [index, own] of specs.layers.entries()) {
      await writeDense(writer, checkpoint, own);
      await setImmediate();
      onLayer(index + 1, config.numLayers);
    }
  } else quant = await writeQuantizedLayers(writer, checkpoint, set, options, onLayer);
  const ending = { name: artifactName(options, quant), quant, ...common };
  return { manifest: await writeEnding(writer, checkpoint, files, ending), calibrationTokens };
}

/** How embedding and head are stored. @throws FormatError for a head of other bits than the embedding that it is */
function tableBits(
  { embeddingBits, headBits }: PrepareOptions,
  { tieWordEmbeddings }: LlamaConfig,
): Pick<Manifest, 'embeddingBits' | 'headBits'> {
  const embedding = embeddingBits === 8 ? { embeddingBits } : {};
  if (!tieWordEmbeddings) return { ...embedding, ...(headBits === 8 && { headBits }) };
  if (headBits === 8 && embeddingBits !== 8) {
    throw new FormatError(
      'head bits 8: expected embedding bits 8, too: the head of this model is its embedding',
    );
  }
  return embedding;
}

/** What comes behind the layers: norm and head, tokenizer, manifest. */
async function writeEnding(
  writer: ArtifactWriter,
  checkpoint: WeightSource,
  files: ReadonlyMap<string, Uint8Array>,
  manifest: Pick<
    Manifest,
    'name' | 'config' | 'scheme' | 'quant' | 'embeddingBits' | 'headBits' | 'provenance'
  >,
): Promise<Manifest> {
  const { name, config, scheme, quant, embeddingBits, headBits, provenance } = manifest;
  const tables = { embeddingBits, headBits };
  const { after } = splitSpecs({ config, scheme: 'fp16', quant: null, denseDtype: 'F16', ...tables });
  await writeDense(writer, checkpoint, after);
  const tokenizerFiles: FileEntry[] = [...files].map(([name, bytes]) => writer.addFile(name, bytes));
  return writer.finish({
    format: 'mergequant',
    version: quant?.weightGrid || quant?.zeroPoints || embeddingBits || headBits ? 2 : 1,
    name,
    config,
    scheme,
    quant,
    denseDtype: 'F16',
    ...tables,
    tokenizerFiles,
    provenance,
  });
}

export interface MergeOptions extends ArtifactWriterOptions {
  readonly checkpoint: string;
  readonly out: string;
  /** Folders of `prepare --layers`, in any order. */
  readonly parts: readonly string[];
  readonly greedy?: boolean;
}

/**
 * Joins parts into the artifact that one whole run with the same options writes, byte for byte.
 * @throws FormatError when parts do not fit together or do not belong to the checkpoint
 */
export async function runMerge(options: MergeOptions): Promise<Manifest> {
  const parts = orderParts(options.parts.map(readPart));
  const { range: _, shards: __, format: ___, quant, seed, ...common } = parts[0]!.manifest;
  const checkpoint = await Checkpoint.open(options.checkpoint);
  try {
    if (JSON.stringify(checkpoint.config) !== JSON.stringify(common.config)) {
      throw new FormatError(
        `${parts[0]!.folder}: expected layers of ${options.checkpoint}, found another config`,
      );
    }
    const writer = new ArtifactWriter(options.out, { ...options, maxTensorBytes: common.maxTensorBytes });
    try {
      const source = quant.hadamard ? new RotatedCheckpoint(checkpoint, seed) : checkpoint;
      const { before } = splitSpecs({ ...common, scheme: 'fp16', quant: null, denseDtype: 'F16' });
      await writeDense(writer, source, before);
      const layers: LayerSpec[] = [];
      for (const part of parts) {
        for (const spec of part.manifest.quant.layers) {
          await copyTensors(writer, part, layerTensors(common, quant, layers.length, spec));
          layers.push(spec);
        }
      }
      const files = await readTokenizerFiles(checkpoint.folder, options.greedy);
      return await writeEnding(writer, source, files, { ...common, quant: { ...quant, layers } });
    } finally {
      writer.discard();
    }
  } finally {
    await checkpoint.close();
  }
}

/** @throws RangeError for options that exclude each other */
function checkOptions(options: PrepareOptions, numLayers: number): void {
  const { hadamard, scheme, layers, propagate, compensation } = options;
  if (compensation && options.calibration.length === 0) {
    throw new CalibrationMissingError('compensation trains on calibration text: give --calibration');
  }
  weightGridOf(options);
  if (hadamard && scheme === 'fp16') {
    throw new RangeError('Hadamard variant: expected a quantized scheme, found fp16');
  }
  if (!layers) return;
  const [from, end] = layers;
  if (!(from >= 0 && from < end && end <= numLayers)) {
    throw new RangeError(`layers: expected a range within 0:${numLayers}, found ${from}:${end}`);
  }
  if (scheme === 'fp16') throw new RangeError('layers: expected a quantized scheme, found fp16');
  if (propagate === 'quantized' || compensation) {
    throw new RangeError('layers: expected float propagation (independent layers), found quantized');
  }
}

/**
 * Prepares an artifact. The checkpoint is checked before anything is written; the output folder appears whole or not at
 * all. Memory: one layer in float32, one shard, and the calibration tokens' hidden states (tokens · hidden size · 4 bytes);
 * with a device those, and the sites' activations of a layer, lie there up to its budget.
 * @throws FormatError, TokenizerError, CalibrationMissingError, CalibrationDataError or OutputError; RangeError for rotations
 *   of fp16 or of odd sizes
 */
export async function runPrepare(
  options: PrepareOptions,
  onLayer: OnLayer = () => {},
): Promise<PrepareSummary> {
  const start = performance.now();
  const checkpoint = await Checkpoint.open(options.checkpoint);
  try {
    checkOptions(options, checkpoint.config.numLayers);
    const writer = new ArtifactWriter(options.out, options);
    try {
      const source = options.hadamard ? new RotatedCheckpoint(checkpoint, options.seed) : checkpoint;
      const { manifest, calibrationTokens } = await writeArtifact(writer, source, options, onLayer);
      const files = [...manifest.shards, ...(manifest.tokenizerFiles ?? [])];
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
