/** What is kept between visits, for people to see and to delete. */
import type { Manifest } from '../format/manifest';
import { parseManifestText } from './manifest-text';
import type { StorageEnvironment } from './open-artifact';
import type { StoredModel } from './stores';

type Stores = Pick<StorageEnvironment, 'shards' | 'models'>;

export interface StoredModelInfo {
  readonly url: string;
  readonly name: string;
  /** Bytes of its files that are stored. */
  readonly storedBytes: number;
  readonly complete: boolean;
  readonly lastUsedMs: number;
}

/** Stored models, the last used first. */
export async function listStoredModels({ shards, models }: Stores): Promise<StoredModelInfo[]> {
  const present = new Set(await shards.list());
  const infos = (await models.list()).map((model) => {
    const manifest = manifestOf(model);
    const storedBytes = filesOf(manifest)
      .filter((file) => present.has(file.sha256))
      .reduce((sum, file) => sum + file.bytes, 0);
    const { url, complete, lastUsedMs } = model;
    return { url, name: manifest?.name ?? url, storedBytes, complete, lastUsedMs };
  });
  return infos.sort((a, b) => b.lastUsedMs - a.lastUsedMs);
}

/** Forgets a model and frees the files that no other model shares. */
export async function deleteStoredModel(url: string, stores: Stores): Promise<void> {
  await stores.models.delete(url);
  await sweepShards(stores);
}

/** Deletes every file that no listed model mentions: an older version's, or one of a deleted model. */
export async function sweepShards({ shards, models }: Stores): Promise<void> {
  const used = new Set(
    (await models.list()).flatMap((model) => filesOf(manifestOf(model)).map((f) => f.sha256)),
  );
  for (const sha256 of await shards.list()) {
    if (!used.has(sha256)) await shards.delete(sha256);
  }
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
