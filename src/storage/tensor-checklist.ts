/** Checks, shard by shard, that an artifact holds exactly the tensors its manifest stands for. */
import { ManifestError } from '../format/errors';
import type { FileEntry, Manifest } from '../format/manifest';
import { expectedStoredTensors } from '../format/parse-manifest';
import { parseSafetensorsHeader, type SafetensorsTensor } from '../format/safetensors';
import type { StoredTensor } from '../format/tensors';

/** A tensor found where it belongs. */
export interface FoundTensor {
  readonly stored: StoredTensor;
  /** Offset of its first byte in the shard. */
  readonly begin: number;
}

export class TensorChecklist {
  readonly #missing: Map<string, StoredTensor>;
  readonly #expected: ReadonlySet<string>;

  constructor(manifest: Manifest) {
    this.#missing = expectedStoredTensors(manifest);
    this.#expected = new Set(this.#missing.keys());
  }

  /** All tensors of one shard. @throws SafetensorsError, ManifestError for a tensor that does not belong there */
  check(file: FileEntry, bytes: ArrayBuffer): FoundTensor[] {
    const header = parseSafetensorsHeader(new Uint8Array(bytes), bytes.byteLength, file.name);
    return header.tensors.map((found) => ({ stored: this.#take(file, found), begin: found.begin }));
  }

  /** @throws ManifestError naming a tensor that no shard held */
  finish(): void {
    const [missing] = this.#missing.keys();
    if (missing === undefined) return;
    throw new ManifestError({
      file: 'manifest.json',
      where: missing,
      expected: 'the tensor in one of the shards',
      found: `nothing (${this.#missing.size} of ${this.#expected.size} tensors are missing)`,
    });
  }

  #take(file: FileEntry, found: SafetensorsTensor): StoredTensor {
    const refuse = (expected: string, what: string): never => {
      throw new ManifestError({ file: file.name, where: found.name, expected, found: what });
    };
    const stored = this.#missing.get(found.name);
    if (!stored) {
      return this.#expected.has(found.name)
        ? refuse('each tensor once', 'it a second time')
        : refuse('only tensors of this model', 'an unknown tensor');
    }
    const { dtype, shape } = stored.tensor;
    const wanted = `${dtype} [${[stored.rows, ...shape.slice(1)].join(', ')}]`;
    const got = `${found.dtype} [${found.shape.join(', ')}]`;
    if (got !== wanted) refuse(wanted, got);
    this.#missing.delete(found.name);
    return stored;
  }
}
