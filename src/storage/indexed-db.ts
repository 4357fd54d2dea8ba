/** The browser's IndexedDB as shard store and model list. One database each: idb-keyval makes one store per database. */
import { createStore, del, get, keys, set, values } from 'idb-keyval';
import type { ModelList, ShardStore, StoredModel } from './stores';

export function openIndexedDbShardStore(): ShardStore {
  const store = createStore('mergequant-shards', 'shards');
  return {
    get: (sha256) => get<ArrayBuffer>(sha256, store),
    put: (sha256, bytes) => set(sha256, bytes, store),
    has: async (sha256) => (await keys<string>(store)).includes(sha256),
    delete: (sha256) => del(sha256, store),
    list: () => keys<string>(store),
  };
}

/** Short texts by key, for what was measured on this device. */
export function openTunings(): {
  get(key: string): Promise<string | undefined>;
  set(key: string, value: string): Promise<void>;
} {
  const store = createStore('mergequant-tunings', 'tunings');
  return { get: (key) => get<string>(key, store), set: (key, value) => set(key, value, store) };
}

export function openModelList(): ModelList {
  const store = createStore('mergequant-models', 'models');
  return {
    get: (url) => get<StoredModel>(url, store),
    put: (model) => set(model.url, model, store),
    delete: (url) => del(url, store),
    list: () => values<StoredModel>(store),
  };
}
