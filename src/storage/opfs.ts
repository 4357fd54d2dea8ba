/** The origin private file system as shard store: one file per shard. For workers, which alone get synchronous handles. */
import type { ShardStore } from './stores';

const folderName = 'mergequant-shards';
/** A file being written; it gets its real name when it is whole. */
const partSuffix = '.part';
/** A part untouched for so long belongs to a tab that is gone. */
const staleMs = 3_600_000;

/** Newer than TypeScript's DOM types. */
interface MovableHandle extends FileSystemFileHandle {
  move(name: string): Promise<void>;
  createSyncAccessHandle(options?: { mode: 'read-only' }): Promise<FileSystemSyncAccessHandle>;
}

/** @throws DOMException where the browser has no such file system (private windows of some browsers) */
export async function openOpfsShardStore(): Promise<ShardStore> {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(folderName, { create: true });
  await removeStaleParts(folder);
  const file = (name: string, create = false) =>
    folder.getFileHandle(name, { create }) as Promise<MovableHandle>;
  return {
    get: async (sha256) => {
      const handle = await present(file(sha256));
      return handle === null ? undefined : readFile(handle);
    },
    put: async (sha256, bytes) => {
      const name = `${sha256}.${crypto.randomUUID()}${partSuffix}`;
      try {
        const handle = await file(name, true);
        await writeFile(handle, bytes);
        await handle.move(sha256);
      } catch (error) {
        await present(folder.removeEntry(name)).catch(() => undefined);
        throw error;
      }
    },
    has: async (sha256) => (await present(file(sha256))) !== null,
    delete: async (sha256) => void (await present(folder.removeEntry(sha256))),
    list: async () => (await names(folder)).filter((name) => !name.endsWith(partSuffix)),
  };
}

/** What the promise gives, or null when there is no such file. */
async function present<T>(found: Promise<T>): Promise<T | null> {
  try {
    return await found;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return null;
    throw error;
  }
}

async function readFile(handle: MovableHandle): Promise<ArrayBuffer> {
  let access: FileSystemSyncAccessHandle;
  try {
    access = await handle.createSyncAccessHandle({ mode: 'read-only' });
  } catch {
    return (await handle.getFile()).arrayBuffer(); // another tab holds it, where handles are exclusive
  }
  try {
    const bytes = new ArrayBuffer(access.getSize());
    const read = access.read(bytes, { at: 0 });
    return read === bytes.byteLength ? bytes : bytes.slice(0, read);
  } finally {
    access.close();
  }
}

async function writeFile(handle: MovableHandle, bytes: ArrayBuffer): Promise<void> {
  const access = await handle.createSyncAccessHandle();
  try {
    const written = access.write(bytes, { at: 0 });
    if (written !== bytes.byteLength) {
      // Chromium reports a full disk this way instead of throwing.
      throw new DOMException(
        `only ${written} of ${bytes.byteLength} bytes were written`,
        'QuotaExceededError',
      );
    }
    access.flush();
  } finally {
    access.close();
  }
}

async function names(folder: FileSystemDirectoryHandle): Promise<string[]> {
  const found: string[] = [];
  for await (const name of folder.keys()) found.push(name);
  return found;
}

async function removeStaleParts(folder: FileSystemDirectoryHandle): Promise<void> {
  for (const name of (await names(folder)).filter((part) => part.endsWith(partSuffix))) {
    const file = await present(folder.getFileHandle(name).then((handle) => handle.getFile()));
    if (file && Date.now() - file.lastModified > staleMs) await present(folder.removeEntry(name));
  }
}
