/**
 * Brings an artifact's files, verified, from the browser's storage or the network to a sink, one shard at a time. While
 * a shard goes to the sink the next one is fetched, so at most two shards are in memory.
 */
import type { FileEntry } from '../format/manifest';
import type { StoredTensor } from '../format/tensors';
import { downloadFile } from './download';
import type { OpenArtifact, StorageEnvironment } from './open-artifact';
import { sha256Hex } from './sha256';
import { sweepShards } from './stored-models';
import { TensorChecklist } from './tensor-checklist';

/** Where verified content goes. */
export interface ArtifactSink {
  /** A view into a shard that is released afterwards: use or copy it before returning. */
  tensor(stored: StoredTensor, bytes: Uint8Array<ArrayBuffer>): void;
  /** After the last tensor of each shard; the next shard waits for it. */
  shardDone(): Promise<void>;
}

export interface ArtifactProgress {
  readonly phase: 'download' | 'verify' | 'upload';
  /** Bytes of all files that are here. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface LoadOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ArtifactProgress) => void;
}

export interface LoadedFiles {
  /** Text of the tokenizer's files by name. */
  readonly tokenizerFiles: ReadonlyMap<string, string>;
  readonly networkBytes: number;
  /** Why the next visit has to download again (no space, storage forbidden); null when everything is stored. */
  readonly storageProblem: string | null;
}

/**
 * Loads all files of `artifact`. What is stored is hashed again; what is damaged is deleted and fetched again.
 * @throws DownloadError, IntegrityError, SafetensorsError, ManifestError, or the signal's reason
 */
export async function loadArtifact(
  artifact: OpenArtifact,
  sink: ArtifactSink,
  environment: StorageEnvironment,
  options: LoadOptions = {},
): Promise<LoadedFiles> {
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const source = new FileSource(artifact, environment, { ...options, signal });
  try {
    await source.remember(false);
    const tokenizerFiles = new Map<string, string>();
    for (const file of artifact.manifest.tokenizerFiles) {
      tokenizerFiles.set(file.name, new TextDecoder().decode(await source.read(file)));
    }
    await sinkShards(artifact, source, sink);
    if (source.storageProblem === null) {
      await source.remember(true);
      await sweepShards(environment);
    }
    return { tokenizerFiles, networkBytes: source.networkBytes, storageProblem: source.storageProblem };
  } finally {
    stop.abort(); // ends a fetch that runs ahead of a failure
  }
}

async function sinkShards(artifact: OpenArtifact, source: FileSource, sink: ArtifactSink): Promise<void> {
  const { shards } = artifact.manifest;
  const checklist = new TensorChecklist(artifact.manifest);
  let next = source.start(shards[0]);
  for (const [index, file] of shards.entries()) {
    const bytes = await next;
    if (!bytes) break;
    next = source.start(shards[index + 1]);
    source.report('upload');
    for (const { stored, begin } of checklist.check(file, bytes)) {
      sink.tensor(stored, new Uint8Array(bytes, begin, stored.bytes));
    }
    await sink.shardDone();
    source.throwIfAborted();
  }
  checklist.finish();
}

/** Reads files, from the store when they are sound there, and counts bytes. */
class FileSource {
  networkBytes = 0;
  storageProblem: string | null = null;
  #finishedBytes = 0;
  #partialBytes = 0;
  readonly #totalBytes: number;

  constructor(
    readonly artifact: OpenArtifact,
    readonly environment: StorageEnvironment,
    readonly options: LoadOptions,
  ) {
    const { shards, tokenizerFiles } = artifact.manifest;
    this.#totalBytes = [...shards, ...tokenizerFiles].reduce((sum, file) => sum + file.bytes, 0);
  }

  throwIfAborted(): void {
    this.options.signal?.throwIfAborted();
  }

  /** One file is read at a time: `partialBytes` of it are here. */
  report(phase: ArtifactProgress['phase'], partialBytes = this.#partialBytes): void {
    this.#partialBytes = partialBytes;
    const doneBytes = this.#finishedBytes + partialBytes;
    this.options.onProgress?.({ phase, doneBytes, totalBytes: this.#totalBytes });
  }

  /** Starts reading; a failure waits for whoever awaits the promise, even if nobody does. */
  start(file: FileEntry | undefined): Promise<ArrayBuffer | null> {
    const reading = file ? this.read(file) : Promise.resolve(null);
    reading.catch(() => undefined);
    return reading;
  }

  async read(file: FileEntry): Promise<ArrayBuffer> {
    this.throwIfAborted();
    const bytes = (await this.#fromStore(file)) ?? (await this.#fromNetwork(file));
    this.#finishedBytes += file.bytes;
    this.#partialBytes = 0;
    return bytes;
  }

  async #fromStore(file: FileEntry): Promise<ArrayBuffer | null> {
    const { shards } = this.environment;
    try {
      const bytes = await shards.get(file.sha256);
      if (!bytes) return null;
      this.report('verify', file.bytes);
      if (bytes.byteLength === file.bytes && (await sha256Hex(bytes)) === file.sha256) return bytes;
      await shards.delete(file.sha256);
    } catch {
      // A damaged or forbidden database throws on reading. The network has the same bytes.
      await shards.delete(file.sha256).catch(() => undefined);
    }
    return null;
  }

  async #fromNetwork(file: FileEntry): Promise<ArrayBuffer> {
    const request = { ...file, url: new URL(encodeURIComponent(file.name), this.artifact.url).href };
    const bytes = await downloadFile(request, this.environment.network, {
      signal: this.options.signal,
      onProgress: (receivedBytes) => this.report('download', receivedBytes),
      onVerify: () => this.report('verify', file.bytes),
    });
    this.networkBytes += file.bytes;
    await this.#keep(() => this.environment.shards.put(file.sha256, bytes));
    return bytes;
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
      this.storageProblem ??= error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    }
  }
}
