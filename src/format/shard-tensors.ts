/** Holds an artifact's shards against its manifest: together they are exactly the model's tensors. */
import { ManifestError } from './errors';
import type { Manifest } from './manifest';
import { expectedStoredTensors } from './parse-manifest';
import type { SafetensorsHeader, SafetensorsTensor } from './safetensors';
import type { StoredTensor } from './tensors';

/** A tensor found where it belongs. */
export interface FoundTensor {
  readonly stored: StoredTensor;
  readonly begin: number;
  readonly end: number;
}

export interface ShardHeader {
  /** The shard's file name. */
  readonly file: string;
  readonly header: SafetensorsHeader;
}

/** The check shard by shard, in any order, for readers that hold one shard at a time. */
export class ShardTensorCheck {
  readonly #expected: ReadonlyMap<string, StoredTensor>;
  readonly #seen = new Map<string, string>();

  constructor(manifest: Manifest) {
    this.#expected = expectedStoredTensors(manifest);
  }

  /** @throws ManifestError for unaligned data, or a tensor that is unknown, repeated, or of another dtype or shape */
  add({ file, header }: ShardHeader): FoundTensor[] {
    if (header.dataStart % 8 !== 0) {
      const expected = 'a header padded so that the data starts at a multiple of 8';
      throw new ManifestError({ file, where: '', expected, found: `byte ${header.dataStart}` });
    }
    return header.tensors.map((tensor) => ({
      stored: this.#take(file, tensor),
      begin: tensor.begin,
      end: tensor.end,
    }));
  }

  /** @throws ManifestError naming the first tensor that no shard held */
  finish(): void {
    const missing = [...this.#expected.keys()].filter((name) => !this.#seen.has(name));
    if (missing.length === 0) return;
    throw new ManifestError({
      file: 'manifest.json',
      where: missing[0]!,
      expected: 'the tensor in one of the shards',
      found: `nothing (${missing.length} of ${this.#expected.size} tensors are missing)`,
    });
  }

  #take(file: string, { name, dtype, shape }: SafetensorsTensor): StoredTensor {
    const refuse = (expected: string, found: string): never => {
      throw new ManifestError({ file, where: name, expected, found });
    };
    const stored = this.#expected.get(name) ?? refuse('only tensors of this model', 'an unknown tensor');
    const earlier = this.#seen.get(name);
    if (earlier !== undefined) refuse('each tensor once', `it again after ${earlier}`);
    const wanted = `${stored.tensor.dtype} [${[stored.rows, ...stored.tensor.shape.slice(1)].join(', ')}]`;
    const found = `${dtype} [${shape.join(', ')}]`;
    if (found !== wanted) refuse(wanted, found);
    this.#seen.set(name, file);
    return stored;
  }
}

/**
 * All shards at once.
 * @throws ManifestError unless the union of the shards is exactly {@link expectedStoredTensors}, dtypes and shapes included.
 */
export function checkShardTensors(manifest: Manifest, shards: readonly ShardHeader[]): void {
  const check = new ShardTensorCheck(manifest);
  for (const shard of shards) check.add(shard);
  check.finish();
}
