/**
 * Brings an artifact's files, verified, from the browser's storage or the network to a sink. A few shards are fetched at a
 * time, so that a slow server is used well, and never more than those are in memory.
 */
import { checkTensorValues } from '../format/check-values';
import type { FileEntry } from '../format/manifest';
import { parseSafetensorsHeader } from '../format/safetensors';
import { ShardTensorCheck } from '../format/shard-tensors';
import type { StoredTensor } from '../format/tensors';
import { FileSource } from './file-source';
import type { OpenArtifact, StorageEnvironment } from './open-artifact';
import type { PauseGate } from './pause';
import { sweepShards } from './stored-models';

/** Where verified content goes. */
export interface ArtifactSink {
  /** A view into a shard that is released afterwards: use or copy it before returning. */
  tensor(stored: StoredTensor, bytes: Uint8Array<ArrayBuffer>): void;
  /** After the last tensor of each shard; the next shard waits for it. */
  shardDone(): Promise<void>;
}

export interface ArtifactProgress {
  /** `follow`: another tab downloads; `paused`: the user has closed the gate. */
  readonly phase: 'download' | 'verify' | 'upload' | 'follow' | 'paused';
  /** Bytes of all files that are here. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Bytes of the files that were not stored when loading began. */
  readonly missingBytes?: number;
}

export interface LoadOptions {
  readonly signal?: AbortSignal;
  readonly pause?: PauseGate;
  readonly onProgress?: (progress: ArtifactProgress) => void;
}

export interface LoadedFiles {
  /** Text of the tokenizer's files by name. */
  readonly tokenizerFiles: ReadonlyMap<string, string>;
  readonly networkBytes: number;
  /** Why the next visit has to download again (no space, storage forbidden); null when everything is stored. */
  readonly storageProblem: string | null;
}

/** Shards in memory at once, the one on its way to the sink included: 192 MiB at most. */
const shardsAtOnce = 3;

/**
 * Loads all files of `artifact`. What is stored is hashed again; what is damaged is deleted and fetched again. While
 * another tab downloads the same model, this one waits and then finds the files stored.
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
  const work = () => loadFiles(artifact, source, sink, environment);
  try {
    if (await source.isStored()) return await work();
    return await environment.turns.take(artifact.url, signal, source.follow, (tell) => {
      source.tell = tell;
      return work();
    });
  } finally {
    stop.abort(); // ends the fetches that run ahead of a failure
  }
}

async function loadFiles(
  artifact: OpenArtifact,
  source: FileSource,
  sink: ArtifactSink,
  environment: StorageEnvironment,
): Promise<LoadedFiles> {
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
}

async function sinkShards(artifact: OpenArtifact, source: FileSource, sink: ArtifactSink): Promise<void> {
  const { shards, config } = artifact.manifest;
  const check = new ShardTensorCheck(artifact.manifest);
  const ahead = shards.slice(0, shardsAtOnce).map((file) => source.start(file));
  for (const [index, file] of shards.entries()) {
    const bytes = await ahead.shift()!;
    source.report('upload');
    const header = parseSafetensorsHeader(new Uint8Array(bytes), bytes.byteLength, file.name);
    for (const { stored, begin } of check.add({ file: file.name, header })) {
      const view = new Uint8Array(bytes, begin, stored.bytes);
      checkTensorValues(stored, view, config.hiddenSize, file.name);
      sink.tensor(stored, view);
    }
    await sink.shardDone();
    source.throwIfAborted();
    const next: FileEntry | undefined = shards[index + shardsAtOnce];
    if (next) ahead.push(source.start(next));
  }
  check.finish();
}
