/** From parts of layers to an artifact. Node only. */
import { FormatError } from '../format/errors';
import type { FileEntry, LayerSpec, Manifest } from '../format/manifest';
import { removeHalfWritten } from './abandoned';
import { ArtifactWriter, type ArtifactWriterOptions } from './artifact-writer';
import { Checkpoint } from './checkpoint';
import { splitSpecs, writeDense } from './export';
import type { ClipCounts } from './method';
import { copyTensors, orderParts, type Part, type PartManifest, readPart } from './parts';
import { readTokenizerFiles } from './prepare-inputs';
import { clipProvenance, withRates } from './provenance';
import { layerTensors } from './read-layer';
import { RotatedCheckpoint, type WeightSource } from './rotate';

/** What parts say about their layers, in order. */
export interface CopiedLayers extends Required<Pick<PartManifest, 'clip' | 'rates'>> {
  readonly layers: readonly LayerSpec[];
}

/** Copies the layers of parts in order. */
export async function copyLayers(writer: ArtifactWriter, parts: readonly Part[]): Promise<CopiedLayers> {
  const layers: LayerSpec[] = [];
  const clip: ClipCounts[] = [];
  const rates: (number | null)[] = [];
  for (const part of parts) {
    const { manifest } = part;
    for (const [i, spec] of manifest.quant.layers.entries()) {
      await copyTensors(writer, part, layerTensors(manifest, manifest.quant, manifest.range[0] + i, spec));
      layers.push(spec);
    }
    clip.push(...manifest.clip);
    rates.push(...(manifest.rates ?? []));
  }
  return { layers, clip, rates };
}

/** The manifest's keys that neither the writer nor the tokenizer's files decide. */
export type ManifestCore = Pick<
  Manifest,
  'name' | 'config' | 'scheme' | 'quant' | 'embeddingBits' | 'headBits' | 'provenance'
>;

/** What comes in front of the layers: the embedding. */
export function writeBeginning(
  writer: ArtifactWriter,
  source: WeightSource,
  core: Pick<ManifestCore, 'config' | 'embeddingBits' | 'headBits'>,
): Promise<void> {
  const { before } = splitSpecs({ ...core, scheme: 'fp16', quant: null, denseDtype: 'F16' });
  return writeDense(writer, source, before);
}

/** What comes behind the layers: norm and head, tokenizer, manifest. */
export async function writeEnding(
  writer: ArtifactWriter,
  source: WeightSource,
  files: ReadonlyMap<string, Uint8Array>,
  core: ManifestCore,
): Promise<Manifest> {
  const { quant, embeddingBits, headBits, provenance, ...rest } = core;
  const tables = { embeddingBits, headBits };
  const layout = { config: core.config, ...tables };
  const { after } = splitSpecs({ ...layout, scheme: 'fp16', quant: null, denseDtype: 'F16' });
  await writeDense(writer, source, after);
  const tokenizerFiles: FileEntry[] = [...files].map(([name, bytes]) => writer.addFile(name, bytes));
  const usesVersion2 = quant?.weightGrid || quant?.zeroPoints || quant?.prefix || embeddingBits || headBits;
  return writer.finish({
    format: 'mergequant',
    version: usesVersion2 ? 2 : 1,
    ...rest,
    quant,
    denseDtype: 'F16',
    ...tables,
    tokenizerFiles,
    provenance,
  });
}

/** A whole artifact from the parts of all layers, in order. */
export async function writeParts(
  writer: ArtifactWriter,
  source: WeightSource,
  parts: readonly Part[],
  files: ReadonlyMap<string, Uint8Array>,
): Promise<Manifest> {
  const { name, config, scheme, quant, embeddingBits, headBits, provenance } = parts[0]!.manifest;
  const tables = { embeddingBits, headBits };
  await writeBeginning(writer, source, { config, ...tables });
  const { layers, clip, rates } = await copyLayers(writer, parts);
  return writeEnding(writer, source, files, {
    ...{ name, config, scheme, quant: { ...quant, layers }, ...tables },
    provenance: { ...withRates(provenance, rates), ...clipProvenance(clip) },
  });
}

export interface MergeOptions extends ArtifactWriterOptions {
  readonly checkpoint: string;
  readonly out: string;
  /** Folders of `prepare --layers`, in any order. */
  readonly parts: readonly string[];
  readonly greedy?: boolean;
  /** Told of what was removed beside the output. */
  readonly onNotice?: (notice: string) => void;
}

/**
 * Joins parts into the artifact that one whole run with the same options writes, byte for byte.
 * What killed runs left half-written beside the output is removed.
 * @throws FormatError when parts do not fit together or do not belong to the checkpoint
 */
export async function runMerge(options: MergeOptions): Promise<Manifest> {
  const parts = orderParts(options.parts.map(readPart));
  const { config, quant, seed, maxTensorBytes } = parts[0]!.manifest;
  const checkpoint = await Checkpoint.open(options.checkpoint);
  try {
    if (JSON.stringify(checkpoint.config) !== JSON.stringify(config)) {
      throw new FormatError(
        `${parts[0]!.folder}: expected layers of ${options.checkpoint}, found another config`,
      );
    }
    removeHalfWritten(options.out, options.onNotice);
    const writer = new ArtifactWriter(options.out, { ...options, maxTensorBytes });
    try {
      const source = quant.hadamard ? new RotatedCheckpoint(checkpoint, seed) : checkpoint;
      const files = await readTokenizerFiles(checkpoint.folder, options.greedy);
      return await writeParts(writer, source, parts, files);
    } finally {
      writer.discard();
    }
  } finally {
    await checkpoint.close();
  }
}
