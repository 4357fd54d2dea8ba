/** What is kept between visits, for people to see and to delete. */
import type { Manifest } from '../format/manifest';
import { parseManifestText } from './manifest-text';
import type { StorageEnvironment } from './open-artifact';
import { pieceOf } from './parts';
import type { StoredModel } from './stores';

type Stores = Pick<StorageEnvironment, 'shards' | 'models'>;

export interface StoredModelInfo {
  readonly url: string;
  readonly name: string;
  /** Bytes of its files that are stored. */
  readonly storedBytes: number;
  /** The part of `storedBytes` that other models use, too: deleting this one does not free it. */
  readonly sharedBytes: number;
  readonly complete: boolean;
  readonly lastUsedMs: number;
}

/** Stored models, the last used first. */
export async function listStoredModels({ shards, models }: Stores): Promise<StoredModelInfo[]> {
  const present = new Set(await shards.list());
  const listed = (await models.list()).map((model) => ({ model, manifest: manifestOf(model) }));
  const infos = listed.map(({ model, manifest }) => {
    const elsewhere = new Set(
      listed
        .filter((other) => other.model !== model)
        .flatMap((other) => filesOf(other.manifest).map((f) => f.sha256)),
    );
    const stored = filesOf(manifest).filter((file) => present.has(file.sha256));
    const { url, complete, lastUsedMs } = model;
    return {
      ...{ url, name: manifest?.name ?? url, complete, lastUsedMs },
      storedBytes: bytesOf(stored),
      sharedBytes: bytesOf(stored.filter(({ sha256 }) => elsewhere.has(sha256))),
    };
  });
  return infos.sort((a, b) => b.lastUsedMs - a.lastUsedMs);
}

/** Forgets a model and frees the files that no other model shares. */
export async function deleteStoredModel(url: string, stores: Stores): Promise<void> {
  await stores.models.delete(url);
  await sweepShards(stores);
}

/** Deletes every file that no listed model mentions (an older version's, or a deleted model's), and pieces of whole files. */
export async function sweepShards({ shards, models }: Stores): Promise<void> {
  const used = new Set(
    (await models.list()).flatMap((model) => filesOf(manifestOf(model)).map((f) => f.sha256)),
  );
  const keys = await shards.list();
  const whole = new Set(keys);
  for (const key of keys) {
    const piece = pieceOf(key);
    const isNeeded = piece ? used.has(piece.sha256) && !whole.has(piece.sha256) : used.has(key);
    if (!isNeeded) await shards.delete(key);
  }
}

function bytesOf(files: readonly { readonly bytes: number }[]): number {
  return files.reduce((sum, file) => sum + file.bytes, 0);
}

/** null when an earlier or later version of this page stored a manifest that this one cannot read. */
function manifestOf(model: StoredModel): Manifest | null {
  try {
    return parseManifestText(model.manifestText);
  } catch {
    return null;
  }
}

function filesOf(manifest: Manifest | null) {
  return manifest ? [...manifest.shards, ...manifest.tokenizerFiles] : [];
}
