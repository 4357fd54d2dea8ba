/** Writes an artifact into a temporary sibling of its folder and gives it its name when it is whole. Node only. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { FileEntry, Manifest } from '../format/manifest';
import { parseManifest } from '../format/parse-manifest';
import { buildSafetensorsHeader } from '../format/safetensors';
import { defaultMaxTensorBytes, headerEntryBytes, maxShardBytes, shardName } from '../format/shards';
import { type StoredTensor, storedTensors, type TensorSpec } from '../format/tensors';
import { claimFolder, unclaimFolder, workFolder } from './abandoned';
import type { PartManifest } from './parts';

/** The output folder cannot be made, or holds something that must not be overwritten. */
export class OutputError extends Error {
  override readonly name = 'OutputError';
}

export interface ArtifactWriterOptions {
  /** Replace an artifact that is there. */
  readonly force?: boolean;
  /** Cap of one shard file with its header; default 64 MiB. */
  readonly maxShardBytes?: number;
  /** Cap of one stored tensor; default 4 KiB below the shard's. */
  readonly maxTensorBytes?: number;
}

/** Bytes of rows [rowStart, rowStart + rows) of a tensor. */
export type RowSource = (rowStart: number, rows: number) => Promise<Uint8Array> | Uint8Array;

interface Pending {
  readonly stored: StoredTensor;
  readonly bytes: Uint8Array;
}

/** Refuses an output folder that holds anything but an artifact which `force` allows to replace. */
export function checkOutput(folder: string, force: boolean): void {
  if (!existsSync(folder)) return;
  let entries: string[];
  try {
    entries = readdirSync(folder);
  } catch (cause) {
    throw new OutputError(`${folder} exists and is no folder`, { cause });
  }
  if (entries.length === 0) return;
  if (!force)
    throw new OutputError(`${folder} exists already: choose another --out, or add --force to replace it`);
  if (!entries.includes('manifest.json') && !entries.includes('part.json')) {
    throw new OutputError(
      `${folder} holds no manifest.json: --force replaces artifacts only, so nothing was removed`,
    );
  }
}

export class ArtifactWriter {
  readonly maxTensorBytes: number;
  readonly #maxShardBytes: number;
  readonly #partial: string;
  readonly #removeOnExit = () => this.discard();
  readonly #shards: FileEntry[] = [];
  #pending: Pending[] = [];
  #pendingBytes = 0;

  /** Creates the temporary folder. It is removed by `discard`, and when the process ends before `finish`. @throws OutputError */
  constructor(
    readonly folder: string,
    readonly options: ArtifactWriterOptions = {},
  ) {
    checkOutput(folder, options.force ?? false);
    this.#maxShardBytes = options.maxShardBytes ?? maxShardBytes;
    this.maxTensorBytes = options.maxTensorBytes ?? Math.min(defaultMaxTensorBytes, this.#maxShardBytes);
    this.#partial = workFolder(folder, 'partial', randomBytes(4).toString('hex'));
    try {
      mkdirSync(this.#partial, { recursive: true });
      claimFolder(this.#partial);
    } catch (cause) {
      const message = `cannot write to ${dirname(this.#partial)}: ${(cause as Error).message}`;
      throw new OutputError(message, { cause });
    }
    process.once('exit', this.#removeOnExit);
  }

  /** Appends a tensor, row block by row block, and writes every shard that is full. */
  async addTensor(spec: TensorSpec, source: RowSource): Promise<void> {
    for (const stored of storedTensors([spec], this.maxTensorBytes)) {
      const bytes = await source(stored.rowStart, stored.rows);
      if (bytes.byteLength !== stored.bytes) {
        throw new RangeError(`${stored.name}: expected ${stored.bytes} bytes, got ${bytes.byteLength}`);
      }
      const added = headerEntryBytes(stored) + stored.bytes;
      if (this.#pending.length > 0 && this.#pendingBytes + added > this.#maxShardBytes) this.#writeShard();
      if (this.#pending.length === 0) this.#pendingBytes = 256; // length, metadata and padding of the header
      this.#pending.push({ stored, bytes });
      this.#pendingBytes += added;
    }
  }

  /** Writes one file of its own and says what it is. */
  addFile(name: string, bytes: Uint8Array): FileEntry {
    writeFileSync(join(this.#partial, name), bytes);
    return { name, bytes: bytes.byteLength, sha256: createHash('sha256').update(bytes).digest('hex') };
  }

  /** Writes the last shard and the manifest, and gives the folder its name. The manifest is validated as a reader would. */
  finish(manifest: Omit<Manifest, 'shards' | 'maxTensorBytes'>): Manifest {
    if (this.#pending.length > 0) this.#writeShard();
    const whole = { ...manifest, maxTensorBytes: this.maxTensorBytes, shards: this.#shards };
    parseManifest(JSON.parse(JSON.stringify(whole)), 'manifest.json');
    this.#publish('manifest.json', whole);
    return whole;
  }

  /** The same for a range of layers, described by part.json. */
  finishPart(part: Omit<PartManifest, 'shards' | 'maxTensorBytes'>): PartManifest {
    if (this.#pending.length > 0) this.#writeShard();
    const whole = { ...part, maxTensorBytes: this.maxTensorBytes, shards: this.#shards };
    this.#publish('part.json', whole);
    return whole;
  }

  #publish(fileName: string, content: object): void {
    writeFileSync(join(this.#partial, fileName), `${JSON.stringify(content, null, 1)}\n`);
    checkOutput(this.folder, this.options.force ?? false);
    rmSync(this.folder, { recursive: true, force: true });
    unclaimFolder(this.#partial);
    renameSync(this.#partial, this.folder);
    process.off('exit', this.#removeOnExit);
  }

  /** Removes the temporary folder. */
  discard(): void {
    process.off('exit', this.#removeOnExit);
    rmSync(this.#partial, { recursive: true, force: true });
  }

  #writeShard(): void {
    const entries = this.#pending.map(({ stored }) => ({
      name: stored.name,
      dtype: stored.tensor.dtype,
      shape: [stored.rows, ...stored.tensor.shape.slice(1)],
    }));
    const parts = [buildSafetensorsHeader(entries), ...this.#pending.map(({ bytes }) => bytes)];
    this.#shards.push(this.addFile(shardName(this.#shards.length), Buffer.concat(parts)));
    this.#pending = [];
  }
}
