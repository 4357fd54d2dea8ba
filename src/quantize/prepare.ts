/** From a Hugging Face Llama folder to an artifact, one layer at a time. Node only. */
import { basename, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { LlamaConfig } from '../format/config';
import { FormatError } from '../format/errors';
import type { LayerSpec, Manifest, QuantSpec } from '../format/manifest';
import type { ActBits, SchemeName } from '../format/scheme';
import { removeAbandoned, removeHalfWritten } from './abandoned';
import { ArtifactWriter } from './artifact-writer';
import { copyLayers, writeBeginning, writeEnding, writeParts } from './assemble';
import { Checkpoint } from './checkpoint';
import { splitSpecs, writeDense } from './export';
import { checkpointFiles, FinishedLayers } from './finished-layers';
import { PrefixedCheckpoint, sharedPrefix } from './float-prefix';
import { earlierParts, type Part, type PartManifest } from './parts';
import { parseTokenizer, readCalibration, readTokenizerFiles } from './prepare-inputs';
import { type OnLayer, type PartCommon, prepareLayers, quantSpec } from './prepare-layers';
import { checkOptions, methodOf, type PrepareOptions } from './prepare-options';
import { provenance } from './provenance';
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

interface Written {
  readonly manifest: Pick<Manifest, 'name' | 'scheme' | 'shards'> & {
    readonly quant: Manifest['quant'];
    readonly tokenizerFiles?: Manifest['tokenizerFiles'];
  };
  readonly calibrationTokens: number;
}

function artifactName({ name, scheme, hadamard, checkpoint }: PrepareOptions): string {
  return name ?? `${basename(resolve(checkpoint))} ${scheme}${hadamard ? ' hadamard' : ''}`;
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

async function writeFloat(
  writer: ArtifactWriter,
  checkpoint: WeightSource,
  options: PrepareOptions,
  onLayer: OnLayer,
): Promise<Written> {
  const { config } = checkpoint;
  const files = await readTokenizerFiles(checkpoint.folder, options.greedy);
  const tables = tableBits(options, config);
  await writeBeginning(writer, checkpoint, { config, ...tables });
  const { layers } = splitSpecs({ config, scheme: 'fp16', quant: null, denseDtype: 'F16', ...tables });
  for (const [index, own] of layers.entries()) {
    await writeDense(writer, checkpoint, own);
    await setImmediate();
    onLayer(index + 1, config.numLayers);
  }
  const manifest = await writeEnding(writer, checkpoint, files, {
    ...{ name: artifactName(options), config, scheme: 'fp16', quant: null, ...tables },
    provenance: provenance(options, null),
  });
  return { manifest, calibrationTokens: 0 };
}

/** What a run's layers depend on; see {@link FinishedLayers}. */
function madeFrom(
  options: PrepareOptions,
  common: PartCommon & { readonly quant: QuantSpec },
  earlier: readonly Part[],
): object {
  const { layers, alpha, maxShardBytes, maxTensorBytes } = options;
  return {
    ...{ ...common, layers, alpha, maxShardBytes, maxTensorBytes },
    checkpoint: checkpointFiles(options.checkpoint),
    earlier: earlier.map(({ manifest }) => manifest.shards.map(({ sha256 }) => sha256)),
  };
}

async function writeQuantized(
  writer: ArtifactWriter,
  checkpoint: WeightSource,
  options: PrepareOptions,
  onLayer: OnLayer,
): Promise<Written> {
  const { config } = checkpoint;
  const { scheme, seed, after = [] } = options;
  const files = await readTokenizerFiles(checkpoint.folder, options.greedy);
  const set = await readCalibration(options, parseTokenizer(files), checkpoint);
  const common: PartCommon = {
    ...{ name: artifactName(options), config, scheme, seed },
    ...tableBits(options, config),
    provenance: provenance(options, set),
  };
  const prefix = set && options.prefix ? sharedPrefix(set.sequences, options.prefix) : null;
  const method = methodOf(options, config, set !== null);
  const whole = { ...common, quant: quantSpec(options, method, prefix, []) };
  const earlier = earlierParts(after, options.layers?.[0] ?? 0, whole);
  const finished = new FinishedLayers(options.out, madeFrom(options, whole, earlier), options);
  if (finished.count > 0) {
    options.onNotice?.(`going on behind ${countOf(finished.count, 'finished layer')} in ${finished.folder}`);
  }
  const source = prefix ? new PrefixedCheckpoint(checkpoint, prefix, method.hadamard) : checkpoint;
  const run = { checkpoint: source, set, options, common, prefix, finished, earlier, onLayer };
  const parts = await prepareLayers(run);
  const manifest = options.layers
    ? await joinParts(writer, parts, options.layers)
    : await writeParts(writer, checkpoint, parts, files);
  finished.remove();
  return { manifest, calibrationTokens: set?.tokens ?? 0 };
}

function countOf(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}

/**
 * Removes what processes that have certainly ended left beside the output: half-written artifacts, and, once this one is
 * whole, layers that were finished for it with other options.
 */
function clearUp({ out, onNotice }: PrepareOptions, isDone: boolean): void {
  removeHalfWritten(out, onNotice);
  for (const folder of isDone ? removeAbandoned(out, 'layers') : []) {
    onNotice?.(`removed ${folder}: layers that a killed run with other options had finished`);
  }
}

/** One part of a range's layers. */
async function joinParts(
  writer: ArtifactWriter,
  parts: readonly Part[],
  range: PartManifest['range'],
): Promise<PartManifest> {
  const { shards: _, maxTensorBytes: __, ...common } = parts[0]!.manifest;
  const { layers, clip, rates } = await copyLayers(writer, parts);
  const trained = rates.length > 0 ? { rates } : {};
  return writer.finishPart({ ...common, range, quant: { ...common.quant, layers }, clip, ...trained });
}

/**
 * Prepares an artifact. The checkpoint is checked before anything is written; the output folder appears whole or not at
 * all. Quantized layers are kept beside it until then, and the same call after a kill goes on behind them; what a killed
 * run with other options left is removed with the first that ends well. Memory: one layer in
 * float32, one shard, and the calibration tokens' hidden states (tokens · hidden size · 4 bytes); with a device those, and the
 * sites' activations of a layer, lie there up to its budget.
 * @throws FormatError, TokenizerError, CalibrationMissingError, CalibrationDataError or OutputError; RangeError for options
 *   that exclude each other and for rotations of odd sizes
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
    clearUp(options, false);
    try {
      const source = options.hadamard ? new RotatedCheckpoint(checkpoint, options.seed) : checkpoint;
      const write = options.scheme === 'fp16' ? writeFloat : writeQuantized;
      const written = await write(writer, source, options, onLayer);
      clearUp(options, true);
      return summaryOf(options, written, (performance.now() - start) / 1000);
    } finally {
      writer.discard();
    }
  } finally {
    await checkpoint.close();
  }
}

function summaryOf(
  { out }: PrepareOptions,
  { manifest, calibrationTokens }: Written,
  seconds: number,
): PrepareSummary {
  const files = [...manifest.shards, ...(manifest.tokenizerFiles ?? [])];
  return {
    out,
    name: manifest.name,
    scheme: manifest.scheme,
    actBits: manifest.quant?.actBits ?? null,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    shards: manifest.shards.length,
    calibrationTokens,
    layers: manifest.quant?.layers ?? [],
    seconds,
  };
}
