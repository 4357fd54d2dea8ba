/** Which of the browser's two stores keeps the shards: the one that measures faster here, decided once per origin. */
import { createStore, get, set } from 'idb-keyval';
import { openIndexedDbShardStore } from './indexed-db';
import { openOpfsShardStore } from './opfs';
import type { ShardStore } from './stores';

export type ShardStoreKind = 'indexed-db' | 'opfs';

/** Milliseconds to write and to read the probe. */
export interface StoreTiming {
  readonly writeMs: number;
  readonly readMs: number;
}

const probeBytes = 4 * 2 ** 20;
/** No content has this hash. */
const probeKey = 'probe'.padEnd(64, '0');

/** Writes and reads `bytes` incompressible bytes (a database may compress). */
export async function timeStore(store: ShardStore, bytes: number): Promise<StoreTiming> {
  const data = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at += 65_536) crypto.getRandomValues(data.subarray(at, at + 65_536));
  try {
    const start = performance.now();
    await store.put(probeKey, data.buffer);
    const written = performance.now();
    const back = await store.get(probeKey);
    const read = performance.now();
    if (back?.byteLength !== bytes) throw new Error('the probe did not come back');
    return { writeMs: written - start, readMs: read - written };
  } finally {
    await store.delete(probeKey);
  }
}

/**
 * New shards go to the faster store; what an earlier visit left in the other one is still found. A browser without the file
 * system, or without room to measure, uses IndexedDB.
 */
export async function openBestShardStore(): Promise<ShardStore> {
  const indexedDb = openIndexedDbShardStore();
  let opfs: ShardStore;
  try {
    opfs = await openOpfsShardStore();
  } catch {
    return indexedDb;
  }
  const kind = await chosenKind(indexedDb, opfs).catch((): ShardStoreKind => 'indexed-db');
  return kind === 'opfs' ? bothStores(opfs, indexedDb) : bothStores(indexedDb, opfs);
}

async function chosenKind(indexedDb: ShardStore, opfs: ShardStore): Promise<ShardStoreKind> {
  const settings = createStore('mergequant-settings', 'settings');
  const remembered = await get<ShardStoreKind>('shard-store', settings);
  if (remembered) return remembered;
  await timeStore(indexedDb, 1024); // opening a database is paid once, by whoever comes first
  const inDatabase = await timeStore(indexedDb, probeBytes);
  const inFiles = await timeStore(opfs, probeBytes);
  const kind = inFiles.readMs < inDatabase.readMs ? 'opfs' : 'indexed-db'; // written once, read at every visit
  await set('shard-store', kind, settings);
  return kind;
}

/** Writes to the first, reads from whichever has it. */
export function bothStores(first: ShardStore, second: ShardStore): ShardStore {
  return {
    get: async (sha256) => (await first.get(sha256)) ?? second.get(sha256),
    put: (sha256, bytes) => first.put(sha256, bytes),
    has: async (sha256) => (await first.has(sha256)) || second.has(sha256),
    delete: async (sha256) => void (await Promise.all([first.delete(sha256), second.delete(sha256)])),
    list: async () => [...new Set((await Promise.all([first.list(), second.list()])).flat())],
  };
}

/** A store that opens at its first use. A failed opening is tried again at the next. */
export function lazyShardStore(open: () => Promise<ShardStore>): ShardStore {
  let opening: Promise<ShardStore> | null = null;
  const store = (): Promise<ShardStore> => {
    opening ??= open().catch((error) => {
      opening = null;
      throw error;
    });
    return opening;
  };
  return {
    get: async (sha256) => (await store()).get(sha256),
    put: async (sha256, bytes) => (await store()).put(sha256, bytes),
    has: async (sha256) => (await store()).has(sha256),
    delete: async (sha256) => (await store()).delete(sha256),
    list: async () => (await store()).list(),
  };
}
