/** Ranges of layers prepared by independent jobs, and how they become one artifact. Node only. */
import { closeSync, existsSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '../format/errors';
import type { FileEntry, Manifest, QuantSpec } from '../format/manifest';
import { parseSafetensorsHeader } from '../format/safetensors';
import { type StoredTensor, storedTensors, type TensorSpec } from '../format/tensors';
import type { ArtifactWriter } from './artifact-writer';
import type { ClipCounts } from './method';

/** First layer and the one behind the last. */
export type LayerRange = readonly [number, number];

/** part.json: what the manifest will need of these layers. */
export interface PartManifest
  extends Pick<
    Manifest,
    'name' | 'config' | 'scheme' | 'embeddingBits' | 'headBits' | 'provenance' | 'maxTensorBytes'
  > {
  readonly format: 'mergequant-part';
  readonly range: LayerRange;
  /** `layers` holds the range's specs only. */
  readonly quant: QuantSpec;
  /** Clip ratios of the range's layers, for the provenance. */
  readonly clip: readonly ClipCounts[];
  /** Rates that compensation trained the range's layers with, see `QuantizedLayer.trainedRate`. */
  readonly rates?: readonly (number | null)[];
  /** Seed of the rotations. */
  readonly seed: number;
  readonly shards: readonly FileEntry[];
}

export interface Part {
  readonly folder: string;
  readonly manifest: PartManifest;
  /** Where each stored tensor's bytes lie. */
  readonly tensors: ReadonlyMap<
    string,
    { readonly file: string; readonly begin: number; readonly end: number }
  >;
}

function readRange(path: string, begin: number, end: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(end - begin);
    const read = readSync(file, bytes, 0, bytes.length, begin);
    if (read !== bytes.length) throw new FormatError(`${path}: expected ${end} bytes, found ${begin + read}`);
    return bytes;
  } finally {
    closeSync(file);
  }
}

/** @throws FormatError naming the folder when it holds no part */
export function readPart(folder: string): Part {
  const path = join(folder, 'part.json');
  if (!existsSync(path))
    throw new FormatError(`${folder}: expected part.json of prepare --layers, found none`);
  const manifest = JSON.parse(readFileSync(path, 'utf8')) as PartManifest;
  if (manifest.format !== 'mergequant-part') {
    throw new FormatError(`${path}: format: expected mergequant-part, found ${manifest.format}`);
  }
  const tensors = new Map<string, { file: string; begin: number; end: number }>();
  for (const { name } of manifest.shards) {
    const file = join(folder, name);
    const bytes = readFileSync(file);
    for (const tensor of parseSafetensorsHeader(bytes, bytes.length, file).tensors) {
      tensors.set(tensor.name, { file, begin: tensor.begin, end: tensor.end });
    }
  }
  return { folder, manifest, tensors };
}

/** Everything of a part that all parts must agree on. */
function commonOf({ manifest }: Part): string {
  const { range: _, shards: __, clip: ___, rates: ____, quant, ...rest } = manifest;
  return JSON.stringify({ ...rest, quant: { ...quant, layers: [] } });
}

/** Sorted parts of layers 0 … next − 1. @throws FormatError when they differ in anything but their range, overlap or leave a gap */
function chained(parts: readonly Part[]): { readonly sorted: readonly Part[]; readonly next: number } {
  const sorted = [...parts].sort((a, b) => a.manifest.range[0] - b.manifest.range[0]);
  let next = 0;
  for (const part of sorted) {
    const [from, end] = part.manifest.range;
    if (from !== next)
      throw new FormatError(`${part.folder}: expected layers from ${next}, found ${from}:${end}`);
    if (commonOf(part) !== commonOf(sorted[0]!)) {
      throw new FormatError(`${part.folder}: expected the options of ${sorted[0]!.folder}, found other ones`);
    }
    next = end;
  }
  return { sorted, next };
}

/** Parts of all layers, in order. @throws FormatError when they differ in anything but their range, overlap or leave a gap */
export function orderParts(parts: readonly Part[]): readonly Part[] {
  const { sorted, next } = chained(parts);
  const total = sorted[0]?.manifest.config.numLayers ?? 0;
  if (next !== total || total === 0)
    throw new FormatError(`parts: expected layers 0:${total}, found 0:${next}`);
  return sorted;
}

/**
 * Parts of layers 0 … from − 1 that a range goes on behind.
 * @param common what the range's own part will say. @throws FormatError when they leave a gap or were made otherwise
 */
export function earlierParts(folders: readonly string[], from: number, common: object): readonly Part[] {
  if (folders.length === 0) return [];
  const { sorted, next } = chained(folders.map(readPart));
  if (next !== from) throw new FormatError(`after: expected layers 0:${from}, found 0:${next}`);
  const own = JSON.parse(JSON.stringify(common)) as Record<string, unknown>;
  const { quant } = sorted[0]!.manifest;
  const found: Record<string, unknown> = { ...sorted[0]!.manifest, quant: { ...quant, layers: [] } };
  for (const [key, value] of Object.entries(own)) {
    if (JSON.stringify(found[key]) === JSON.stringify(value)) continue;
    throw new FormatError(
      `${sorted[0]!.folder}: ${key}: expected what this range is made with, found another`,
    );
  }
  return sorted;
}

/** The bytes of one stored tensor. @throws FormatError when the part does not hold it */
export function readTensorBlock(part: Part, { name }: StoredTensor): Buffer {
  const place = part.tensors.get(name);
  if (!place) throw new FormatError(`${part.folder}: tensor ${name} is in no shard`);
  return readRange(place.file, place.begin, place.end);
}

/** Copies tensors of a part, row block by row block. @throws FormatError naming one that is missing */
export async function copyTensors(
  writer: ArtifactWriter,
  part: Part,
  specs: readonly TensorSpec[],
): Promise<void> {
  for (const spec of specs) {
    const blocks = storedTensors([spec], part.manifest.maxTensorBytes);
    await writer.addTensor(spec, (rowStart) => {
      const block = blocks.find((stored) => stored.rowStart === rowStart);
      if (!block)
        throw new FormatError(`${part.folder}: tensor ${spec.name} (row ${rowStart}) is in no shard`);
      return readTensorBlock(part, block);
    });
  }
}
