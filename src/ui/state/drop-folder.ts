/** An artifact folder from this computer: finds its files in what was dropped or chosen, and stores it. */
import type { FolderProgress } from '../../../workers/protocol';
import { FolderError } from '../../storage/errors';
import { client } from './model';
import { droppedPath } from './model-library';

export type { FolderProgress };

const isManifest = ({ name }: File) => name === 'manifest.json';

/** Why files without a manifest.json are refused. */
function notPrepared(files: readonly File[]): FolderError {
  const isCheckpoint = files.some(({ name }) => name === 'config.json');
  return new FolderError(
    isCheckpoint
      ? 'this is a checkpoint (config.json, no manifest.json): npx mergequant prepare makes a model for this page of it'
      : 'there is no manifest.json, so this is not the folder of a prepared model',
  );
}

/** @throws FolderError without a manifest.json */
export function filesOfFolder(files: readonly File[]): File[] {
  const manifest = files.find(isManifest);
  if (!manifest) throw notPrepared(files);
  const folderOf = (file: File) => file.webkitRelativePath.replace(/[^/]*$/, '');
  return files.filter((file) => folderOf(file) === folderOf(manifest));
}

/** The files of the first dropped folder that has a manifest.json. @throws FolderError when none has */
export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  // All entries have to be taken before the first await: the list is emptied after the event.
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  const folders = await Promise.all(entries.map(filesBelow));
  const artifact = folders.find((folder) => folder.some(isManifest));
  if (!artifact) throw notPrepared(folders.flat());
  return artifact;
}

/** Files of an entry: itself, or those directly in it. */
async function filesBelow(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return [
      await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)),
    ];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const children: FileSystemEntry[] = [];
  for (;;) {
    const batch = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (batch.length === 0) break; // entries come in portions of a hundred
    children.push(...batch);
  }
  return (await Promise.all(children.filter(({ isFile }) => isFile).map(filesBelow))).flat();
}

/**
 * Stores the artifact in `files` and returns the address it can be loaded from: one of this page, at which no server has
 * anything, made of the manifest's hash.
 * @throws RemoteError of a FolderError, IntegrityError or ManifestError, or of what the browser's storage throws
 */
export async function storeDropped(
  files: readonly File[],
  onProgress: (progress: FolderProgress) => void,
): Promise<string> {
  const manifest = files.find(isManifest)!;
  const hash = await crypto.subtle.digest('SHA-256', await manifest.arrayBuffer());
  const id = [...new Uint8Array(hash, 0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const url = new URL(`${droppedPath}${id}/`, document.baseURI).href;
  await client.storeFolder({ url, files }, onProgress);
  return url;
}
