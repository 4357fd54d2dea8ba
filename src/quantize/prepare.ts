/** From a Hugging Face Llama folder to an artifact, one layer at a time. Node only. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { version } from '../../package.json';
import { FormatError } from '../format/errors';
import type { FileEntry, LayerSpec, Manifest, QuantSpec } from '../format/manifest';
import { type ActBits, type ReconstructMode, type SchemeName, schemeModes } from '../format/scheme';
import { ChatTokenizer } from '../tokenizer';
import { ArtifactWriter } from './artifact-writer';
import { calibrateLayer, chooseTokens, type LayerStats, sampledTokens } from './calibrate';
import { type CalibrationSet, loadCalibration } from './calibration-data';
import { Checkpoint } from './checkpoint';
import type { ClipLoss } from './clip';
import { splitSpecs, writeDense, writeLayer } from './export';
import { ropeTable } from './forward';
import { floatBlock, type LayerWeights } from './layer';
import { type Matrix, matrix } from './matrix';
import { CalibrationMissingError, type Method, quantizeLayer } from './quantize-layer';
import { seededRandom } from './random';
import { roundToNearest } from './rtn';

export interface PrepareOptions {
  /** Folder with config.json, safetensors and tokenizer files. */
  readonly checkpoint: string;
  readonly out: string;
  readonly scheme: SchemeName;
  readonly actBits: ActBits;
  readonly reconstruct: ReconstructMode;
  /** Threshold of Eq. 6 in standard deviations, above 0. */
  readonly alpha: number;
  /** Default: what measured better, `paper` for 4-bit and `output` for 8-bit activations. */
  readonly clipLoss?: ClipLoss;
  /** Text (.txt) and conversation (.jsonl) files. */
  readonly calibration: readonly string[];
  readonly samples: number;
  /** Longest calibration sequence in tokens, at most the model's context; default 512 or the context. */
  readonly sequence?: number;
  readonly seed: number;
  /** Shown to users; default: the checkpoint folder's name and the scheme. */
  readonly name?: string;
  /** Replace an artifact that is there. */
  readonly force?: boolean;
  readonly maxShardBytes?: number;
  readonly maxTensorBytes?: number;
}

/** Defaults of everything but paths; chosen by measurement, see docs/LOG.md. */
export const prepareDefaults = {
  scheme: 'mergequant',
  actBits: 4,
  reconstruct: 'pad',
  alpha: 5,
  calibration: [],
  samples: 64,
  seed: 1,
} as const satisfies Partial<PrepareOptions>;

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

/** Tokenizer files that an artifact carries where the checkpoint has them; the first two must be there. */
const tokenizerFileNames = [
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja',
];

async function readTokenizerFiles(folder: string): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const name of tokenizerFileNames) {
    if (existsSync(join(folder, name))) files.set(name, await readFile(join(folder, name)));
  }
  for (const name of tokenizerFileNames.slice(0, 2)) {
    if (!files.has(name)) throw new FormatError(`${folder}: expected ${name}, found none`);
  }
  return files;
}

function parseTokenizer(files: ReadonlyMap<string, Uint8Array>): ChatTokenizer {
  const texts = [...files].map(([name, bytes]) => [name, new TextDecoder().decode(bytes)] as const);
  return ChatTokenizer.fromFiles(new Map(texts));
}

const defaultSequence = 512;

/** @throws CalibrationMissingError where the scheme cannot do without */
function requireCalibration({ scheme, samples }: PrepareOptions): void {
  const modes = schemeModes[scheme];
  if (modes.norm !== 'static' && modes.projection !== 'static') return;
  throw new CalibrationMissingError(
    `scheme ${scheme} fixes activation scales in advance, from text like the model's own use: give --calibration with ` +
      '.txt files (plain text) or .jsonl files (one {"messages":[{"role":"user","content":"…"},…]} a line); ' +
      `about ${samples * defaultSequence} tokens are enough`,
  );
}

/** The calibration tokens, or null when no file was given and the scheme can do without. */
async function readCalibration(
  options: PrepareOptions,
  tokenizer: ChatTokenizer,
  checkpoint: Checkpoint,
): Promise<CalibrationSet | null> {
  if (options.calibration.length === 0) {
    requireCalibration(options);
    return null;
  }
  const { maxPositionEmbeddings, vocabSize } = checkpoint.config;
  const sequence = options.sequence ?? Math.min(defaultSequence, maxPositionEmbeddings);
  if (sequence > maxPositionEmbeddings || sequence < 2) {
    const expected = `2 to the model's ${maxPositionEmbeddings} tokens`;
    throw new RangeError(`calibration sequence: expected ${expected}, found ${sequence}`);
  }
  const random = seededRandom(options.seed);
  const set = await loadCalibration(options.calibration, tokenizer, {
    samples: options.samples,
    sequence,
    random,
  });
  const largest = set.sequences.flat().reduce((a, b) => Math.max(a, b), 0);
  if (largest >= vocabSize) {
    const expected = `token ids below ${vocabSize}, the vocabulary of config.json`;
    throw new FormatError(`tokenizer.json: expected ${expected}, found ${largest}`);
  }
  return set;
}

/** The embedded calibration tokens, [T, D] per sequence: tokens · D · 4 bytes stay in memory between layers. */
async function embedSequences(checkpoint: Checkpoint, set: CalibrationSet): Promise<Matrix[]> {
  const D = checkpoint.config.hiddenSize;
  const rows = new Map<number, Float32Array>();
  for (const id of set.sequences.flat()) {
    if (!rows.has(id)) rows.set(id, await checkpoint.rows('embed.weight', id, 1));
  }
  return set.sequences.map((ids) => {
    const x = matrix(ids.length, D);
    ids.forEach((id, t) => {
      x.data.set(rows.get(id)!, t * D);
    });
    return x;
  });
}

/** Runs each layer in turn over the calibration set, when there is one. */
async function layerCalibrator(checkpoint: Checkpoint, set: CalibrationSet | null, seed: number) {
  if (!set) return async (): Promise<LayerStats | null> => null;
  const { config } = checkpoint;
  const hidden = await embedSequences(checkpoint, set);
  const rope = ropeTable(config, Math.max(...hidden.map(({ rows }) => rows)));
  const chosen = chooseTokens(set.tokens, sampledTokens, seededRandom(seed + 1));
  return async (layer: LayerWeights): Promise<LayerStats> => {
    const block = await floatBlock(layer, config.rmsNormEps);
    try {
      return await calibrateLayer(block, hidden, chosen, config, rope);
    } finally {
      block.dispose();
    }
  };
}

/** Quantizes and writes the layers one after the other. @returns their specs. */
async function writeQuantizedLayers(
  writer: ArtifactWriter,
  checkpoint: Checkpoint,
  set: CalibrationSet | null,
  options: PrepareOptions,
  onLayer: OnLayer,
): Promise<QuantSpec> {
  const { config } = checkpoint;
  const method: Method = {
    scheme: options.scheme as Method['scheme'],
    actBits: options.actBits,
    reconstruct: options.reconstruct,
    alpha: options.alpha,
    clipLoss: clipLossOf(options),
    quantizeWeights: roundToNearest,
  };
  const calibrate = await layerCalibrator(checkpoint, set, options.seed);
  const merged = schemeModes[options.scheme].norm === 'static' && options.scheme !== 'tensor-static';
  const reconstruct = merged ? options.reconstruct : 'none';
  const layers: LayerSpec[] = [];
  const quantSoFar = (): QuantSpec => ({
    actBits: options.actBits,
    weightBits: 4,
    reconstruct,
    alpha: reconstruct === 'none' ? null : options.alpha,
    layers,
  });
  for (let index = 0; index < config.numLayers; index++) {
    const weights = await checkpoint.layer(index);
    const quantized = await quantizeLayer(weights, await calibrate(weights), config, method);
    layers.push(quantized.spec);
    const layout = { config, scheme: options.scheme, quant: quantSoFar(), denseDtype: 'F16' as const };
    await writeLayer(writer, quantized, splitSpecs(layout).layers[index]!);
    onLayer(index + 1, config.numLayers);
  }
  return quantSoFar();
}

function clipLossOf({ clipLoss, actBits }: PrepareOptions): ClipLoss {
  return clipLoss ?? (actBits === 4 ? 'paper' : 'output');
}

function provenance(options: PrepareOptions, set: CalibrationSet | null): Record<string, unknown> {
  const { samples, seed } = options;
  return {
    tool: `mergequant-web ${version}`,
    checkpoint: basename(resolve(options.checkpoint)),
    weights: options.scheme === 'fp16' ? 'float16' : 'round-to-nearest',
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
  checkpoint: Checkpoint,
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
    name: options.name ?? `${basename(resolve(options.checkpoint))} ${scheme}`,
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
 * @throws FormatError, TokenizerError, CalibrationMissingError, CalibrationDataError or OutputError
 */
export async function runPrepare(
  options: PrepareOptions,
  onLayer: OnLayer = () => {},
): Promise<PrepareSummary> {
  const start = performance.now();
  const checkpoint = await Checkpoint.open(options.checkpoint);
  try {
    const writer = new ArtifactWriter(options.out, options);
    try {
      const { manifest, calibrationTokens } = await writeArtifact(writer, checkpoint, options, onLayer);
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
