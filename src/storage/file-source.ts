/** Reads an artifact's files, from the store when they are sound there, and counts bytes. */
import type { FileEntry } from '../format/manifest';
import { downloadFile } from './download';
import type { LoadOptions } from './load-artifact';
import type { OpenArtifact, StorageEnvironment } from './open-artifact';
import { FileParts } from './parts';
import { sha256Hex } from './sha256';
import type { SharedProgress } from './turns';

export class FileSource {
  networkBytes = 0;
  storageProblem: string | null = null;
  /** Tells other tabs how far the download is. */
  tell: (progress: SharedProgress) => void = () => undefined;
  #finishedBytes = 0;
  #missingBytes = 0;
  /** Bytes received of files on their way. */
  readonly #partial = new Map<FileEntry, number>();
  readonly #onTheWay = new Set<FileEntry>();
  readonly #totalBytes: number;

  constructor(
    readonly artifact: OpenArtifact,
    readonly environment: StorageEnvironment,
    readonly options: LoadOptions,
  ) {
    this.#totalBytes = this.#files.reduce((sum, file) => sum + file.bytes, 0);
    options.pause?.watch(() => this.report('download'));
  }

  get #files(): readonly FileEntry[] {
    const { shards, tokenizerFiles } = this.artifact.manifest;
    return [...shards, ...tokenizerFiles];
  }

  throwIfAborted(): void {
    this.options.signal?.throwIfAborted();
  }

  /** Whether every file seems to be stored; reading will tell whether it is sound. */
  async isStored(): Promise<boolean> {
    const present = new Set(await this.environment.shards.list().catch(() => []));
    const missing = this.#files.filter(({ sha256 }) => !present.has(sha256));
    this.#missingBytes = missing.reduce((sum, { bytes }) => sum + bytes, 0);
    return missing.length === 0;
  }

  /** While a file is on its way, what becomes of others is not worth telling. */
  report(work: 'download' | 'verify' | 'upload'): void {
    const paused = this.options.pause?.paused && this.#onTheWay.size > 0;
    const phase = paused ? 'paused' : this.#onTheWay.size > 0 ? 'download' : work;
    const partialBytes = [...this.#partial.values()].reduce((sum, bytes) => sum + bytes, 0);
    const progress = { doneBytes: this.#finishedBytes + partialBytes, totalBytes: this.#totalBytes };
    const missing = phase === 'download' ? { missingBytes: this.#missingBytes } : {};
    this.options.onProgress?.({ phase, ...progress, ...missing });
    this.tell(progress);
  }

  /** Another tab downloads, and is this far. */
  readonly follow = (progress: SharedProgress | null): void => {
    const { doneBytes, totalBytes } = progress ?? { doneBytes: 0, totalBytes: this.#totalBytes };
    this.options.onProgress?.({ phase: 'follow', doneBytes, totalBytes });
  };

  /** Starts reading; a failure waits for whoever awaits the promise, even if nobody does. */
  start(file: FileEntry): Promise<ArrayBuffer> {
    const reading = this.read(file);
    reading.catch(() => undefined);
    return reading;
  }

  async read(file: FileEntry): Promise<ArrayBuffer> {
    this.throwIfAborted();
    try {
      const bytes = (await this.#fromStore(file)) ?? (await this.#fromNetwork(file));
      this.#finishedBytes += file.bytes;
      return bytes;
    } finally {
      this.#partial.delete(file);
      this.#onTheWay.delete(file);
    }
  }

  async #fromStore(file: FileEntry): Promise<ArrayBuffer | null> {
    const { shards } = this.environment;
    try {
      const bytes = await shards.get(file.sha256);
      if (!bytes) return null;
      this.#receive('verify', file, file.bytes);
      if (bytes.byteLength === file.bytes && (await sha256Hex(bytes)) === file.sha256) return bytes;
      await shards.delete(file.sha256);
    } catch {
      // A damaged or forbidden database throws on reading. The network has the same bytes.
      await shards.delete(file.sha256).catch(() => undefined);
    }
    return null;
  }

  async #fromNetwork(file: FileEntry): Promise<ArrayBuffer> {
    const { signal, pause } = this.options;
    const request = { ...file, url: new URL(encodeURIComponent(file.name), this.artifact.url).href };
    const { shards } = this.environment;
    const parts = new FileParts(shards, file.sha256);
    this.#onTheWay.add(file);
    this.report('download');
    const bytes = await downloadFile(request, this.environment.network, {
      ...(signal ? { signal } : {}),
      ...(pause ? { pause } : {}),
      parts,
      onProgress: (received) => this.#receive('download', file, received),
      onVerify: () => {
        this.#onTheWay.delete(file);
        this.#receive('verify', file, file.bytes);
      },
    });
    this.networkBytes += file.bytes - parts.restoredBytes;
    await this.#keep(async () => {
      try {
        await shards.put(file.sha256, bytes);
      } catch (error) {
        if (!(await parts.drop())) throw error;
        await shards.put(file.sha256, bytes); // there was no room for the file beside its pieces
      }
    });
    await parts.drop();
    return bytes;
  }

  #receive(work: 'download' | 'verify', file: FileEntry, bytes: number): void {
    this.#partial.set(file, bytes);
    this.report(work);
  }

  /** Lists the model as stored, or, before that, as on its way. */
  async remember(complete: boolean): Promise<void> {
    const { url, manifestText } = this.artifact;
    const { models, now } = this.environment;
    await this.#keep(async () => {
      const before = await models.get(url).catch(() => undefined);
      const stillComplete = before?.complete === true && before.manifestText === manifestText;
      await models.put({ url, manifestText, complete: complete || stillComplete, lastUsedMs: now() });
    });
  }

  /** The model works without being stored; that it is not is told, not thrown. */
  async #keep(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.storageProblem ??= this.#problemOf(error);
    }
  }

  #problemOf(error: unknown): string {
    if (!(error instanceof Error)) return String(error);
    if (error.name !== 'QuotaExceededError') return `${error.name}: ${error.message}`;
    const needed = Math.ceil(this.#totalBytes / 1e6);
    return `the browser has no room for it: ${needed} MB are needed; delete a stored model or free disk space`;
  }
}
