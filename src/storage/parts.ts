/**
 * The beginning of a file whose download a reload or a crash may interrupt, kept in the shard store piece by piece. A piece
 * is a content of its own, so that it is there whole or not at all; nothing of it is trusted before the whole file's hash.
 */
import type { ShardStore } from './stores';

/** Which bytes these are: a strong ETag means something only at its own address. */
export interface PartOrigin {
  readonly url: string;
  readonly etag: string;
}

/** Pieces are written this often at most: what a crash loses of a download. */
const pieceMs = 1_000;

const keyPattern = /^([0-9a-f]{64})\.at-(\d+)$/;

/** The file that a key of the store holds a piece of; null when it holds a whole file. */
export function pieceOf(key: string): { readonly sha256: string; readonly at: number } | null {
  const match = keyPattern.exec(key);
  return match && { sha256: match[1]!, at: Number(match[2]) };
}

/** The pieces of one file. Failing to keep them never fails the download. */
export class FileParts {
  /** Bytes that {@link restore} found. */
  restoredBytes = 0;
  #savedBytes = 0;
  #latest: { origin: PartOrigin; bytes: Uint8Array; receivedBytes: number } | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #savedAtMs = performance.now();
  #writes: Promise<unknown> = Promise.resolve();
  #gaveUp = false;
  /** There may be pieces in the store. */
  #present = false;

  constructor(
    readonly store: ShardStore,
    readonly sha256: string,
  ) {}

  /**
   * Copies what an earlier visit received from `url` to the start of `target`. Pieces that do not continue one another are
   * dropped.
   * @returns how many bytes, and the version of the file they belong to
   */
  async restore(url: string, target: Uint8Array): Promise<{ bytes: number; etag: string } | null> {
    const keys = await this.#keys().catch(() => []);
    let etag: string | null = null;
    let bytes = 0;
    for (const key of keys) {
      const stored = await this.store.get(key).catch(() => undefined);
      const piece = stored && decodePiece(stored);
      const fits =
        piece &&
        pieceOf(key)!.at === bytes &&
        bytes + piece.data.length <= target.length &&
        piece.origin.url === url &&
        (etag === null || piece.origin.etag === etag);
      if (!fits) break;
      target.set(piece.data, bytes);
      bytes += piece.data.length;
      etag = piece.origin.etag;
    }
    this.#present = keys.length > 0;
    if (etag === null) {
      await this.drop();
      return null;
    }
    this.restoredBytes = bytes;
    this.#savedBytes = bytes;
    return { bytes, etag };
  }

  /** Keeps the first `receivedBytes` of `bytes`: within a second, or `now`. */
  save(origin: PartOrigin, bytes: Uint8Array, receivedBytes: number, now = false): void {
    this.#latest = { origin, bytes, receivedBytes };
    const waitMs = this.#savedAtMs + pieceMs - performance.now();
    if (now || waitMs <= 0) this.#write();
    else this.#timer ??= setTimeout(() => this.#write(), waitMs);
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#gaveUp || !this.#latest || this.#latest.receivedBytes <= this.#savedBytes) return;
    const { origin, bytes, receivedBytes } = this.#latest;
    const at = this.#savedBytes;
    const piece = encodePiece(origin, bytes.subarray(at, receivedBytes));
    this.#savedBytes = receivedBytes;
    this.#savedAtMs = performance.now();
    this.#present = true;
    this.#queue(() => this.store.put(`${this.sha256}.at-${at}`, piece));
  }

  /** Forgets every piece, after what is being written. @returns whether there may have been one */
  async drop(): Promise<boolean> {
    const had = this.#present;
    this.#latest = null;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#present = false;
    this.#savedBytes = 0;
    this.restoredBytes = 0;
    if (had) {
      this.#queue(async () => {
        for (const key of await this.#keys()) await this.store.delete(key);
      });
    }
    await this.#writes;
    return had;
  }

  /** One after the other; a store that refuses is not asked again. */
  #queue(write: () => Promise<void>): void {
    this.#writes = this.#writes.then(write).catch(() => {
      this.#gaveUp = true;
    });
  }

  /** Keys of the file's pieces, in order. */
  async #keys(): Promise<string[]> {
    const keys = (await this.store.list()).filter((key) => pieceOf(key)?.sha256 === this.sha256);
    return keys.sort((a, b) => pieceOf(a)!.at - pieceOf(b)!.at);
  }
}

/** Length of the origin's JSON, the JSON, the data. */
function encodePiece(origin: PartOrigin, data: Uint8Array): ArrayBuffer {
  const head = new TextEncoder().encode(JSON.stringify(origin));
  const piece = new Uint8Array(4 + head.length + data.length);
  new DataView(piece.buffer).setUint32(0, head.length, true);
  piece.set(head, 4);
  piece.set(data, 4 + head.length);
  return piece.buffer;
}

function decodePiece(piece: ArrayBuffer): { origin: PartOrigin; data: Uint8Array } | null {
  try {
    const length = new DataView(piece).getUint32(0, true);
    const origin = JSON.parse(new TextDecoder().decode(new Uint8Array(piece, 4, length))) as PartOrigin;
    if (typeof origin.url !== 'string' || typeof origin.etag !== 'string') return null;
    return { origin, data: new Uint8Array(piece, 4 + length) };
  } catch {
    return null; // cut or damaged on disk
  }
}
