/** What the browser keeps between visits: verified files by content, and which models were loaded from where. */

/**
 * Files by the SHA-256 of their content (lower-case hex), so that models share what is equal; and, under that hash with a
 * suffix, pieces of files on their way (parts.ts). What is put is there whole or not at all.
 */
export interface ShardStore {
  get(sha256: string): Promise<ArrayBuffer | undefined>;
  put(sha256: string, bytes: ArrayBuffer): Promise<void>;
  has(sha256: string): Promise<boolean>;
  delete(sha256: string): Promise<void>;
  /** Keys of everything stored. */
  list(): Promise<string[]>;
}

export interface StoredModel {
  /** The artifact folder, with a trailing slash. */
  readonly url: string;
  readonly manifestText: string;
  /** Every file of the manifest was stored; before that the entry only protects its files from the sweep. */
  readonly complete: boolean;
  /** Milliseconds since 1970. */
  readonly lastUsedMs: number;
}

export interface ModelList {
  get(url: string): Promise<StoredModel | undefined>;
  put(model: StoredModel): Promise<void>;
  delete(url: string): Promise<void>;
  list(): Promise<StoredModel[]>;
}
