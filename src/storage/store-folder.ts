/** Takes in an artifact folder from this computer: checks every file against the manifest and stores it. */
import type { FileEntry } from '../format/manifest';
import { FolderError, IntegrityError } from './errors';
import { parseManifestText } from './manifest-text';
import type { StorageEnvironment } from './open-artifact';
import { sha256Hex } from './sha256';

/** Files of one folder by name. */
export type FolderFiles = ReadonlyMap<string, Blob>;

export interface FolderProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/**
 * Stores the artifact in `files` as one that was downloaded from `url`, where nothing needs to be.
 * @throws FolderError, IntegrityError, ManifestError, or what the browser's storage throws
 */
export async function storeFolder(
  url: string,
  files: FolderFiles,
  { shards, models, now }: Pick<StorageEnvironment, 'shards' | 'models' | 'now'>,
  onProgress: (progress: FolderProgress) => void,
): Promise<void> {
  const manifestText = await requireFile('manifest.json', files).text();
  const manifest = parseManifestText(manifestText);
  const entries = [...manifest.shards, ...manifest.tokenizerFiles];
  for (const entry of entries) checkLength(entry, files);
  // Listed first, so that cleaning up after another model leaves its files alone.
  await models.put({ url, manifestText, complete: false, lastUsedMs: now() });
  const totalBytes = entries.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  for (const entry of entries) {
    onProgress({ doneBytes, totalBytes });
    await shards.put(entry.sha256, await verified(entry, files));
    doneBytes += entry.bytes;
  }
  await models.put({ url, manifestText, complete: true, lastUsedMs: now() });
}

function requireFile(name: string, files: FolderFiles): Blob {
  const file = files.get(name);
  if (!file) throw new FolderError(`the folder has no ${name}`);
  return file;
}

function checkLength({ name, bytes }: FileEntry, files: FolderFiles): void {
  const { size } = requireFile(name, files);
  if (size !== bytes) throw new IntegrityError(name, 'length', `${bytes} bytes`, `${size} bytes`);
}

async function verified(entry: FileEntry, files: FolderFiles): Promise<ArrayBuffer> {
  const bytes = await requireFile(entry.name, files).arrayBuffer();
  const found = await sha256Hex(bytes);
  if (found !== entry.sha256) throw new IntegrityError(entry.name, 'SHA-256', entry.sha256, found);
  return bytes;
}
