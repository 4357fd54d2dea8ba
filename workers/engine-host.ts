/** The engine behind the worker's protocol: loads one model at a time, chats with it, stops when told. */
import { TextGenerator } from '../src/chat/text-generator';
import { Engine } from '../src/engine/engine';
import { EngineBusyError, InvalidRequestError } from '../src/engine/errors';
import { WeightsLoader } from '../src/model/weights-loader';
import { type ArtifactProgress, type LoadedFiles, loadArtifact } from '../src/storage/load-artifact';
import { type OpenArtifact, openArtifact, type StorageEnvironment } from '../src/storage/open-artifact';
import { deleteStoredModel, listStoredModels } from '../src/storage/stored-models';
import { ChatTokenizer } from '../src/tokenizer/chat-tokenizer';
import { DeltaBatcher } from './delta-batcher';
import { GpuSession } from './gpu-session';
import type {
  GpuReport,
  LoadProgress,
  LoadRequest,
  ModelInfo,
  StoredModelInfo,
  WireChatRequest,
  WireReply,
} from './protocol';
import { samplingDefaults } from './sampling-defaults';

/** Everything outside the host. */
export interface HostEnvironment {
  readonly gpu: GPU | undefined;
  /** The page came over HTTPS or from this machine; browsers offer WebGPU nowhere else. */
  readonly secure: boolean;
  readonly storage: StorageEnvironment;
}

interface LoadedModel {
  readonly info: ModelInfo;
  readonly engine: Engine;
  readonly generator: TextGenerator;
}

export class EngineHost {
  readonly #environment: HostEnvironment;
  readonly #onFailure: (error: Error) => void;
  #session: GpuSession | null = null;
  #model: LoadedModel | null = null;
  #running: { readonly abort: AbortController; readonly done: Promise<unknown> } | null = null;

  /** `onFailure` hears of a GPU that fails at any time. The model is gone then; `load` opens a new device. */
  constructor(environment: HostEnvironment, onFailure: (error: Error) => void) {
    this.#environment = environment;
    this.#onFailure = onFailure;
  }

  async probe(): Promise<GpuReport> {
    const { gpu, secure } = this.#environment;
    const unavailable = (reason: 'insecure' | 'missing' | 'no-adapter', message: string): GpuReport => ({
      available: false,
      reason,
      message,
    });
    if (!secure) return unavailable('insecure', 'the page is not in a secure context');
    if (!gpu) return unavailable('missing', 'navigator.gpu is missing');
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (!adapter) return unavailable('no-adapter', 'requestAdapter() found nothing');
    const { vendor, architecture, device, description } = adapter.info;
    return { available: true, adapter: { vendor, architecture, device, description } };
  }

  /** @throws what storage, tokenizer, model and engine throw; AbortError when cancelled */
  async load(request: LoadRequest, onProgress: (progress: LoadProgress) => void): Promise<ModelInfo> {
    await this.#stopRunning();
    return this.#run(async (signal) => {
      onProgress({ phase: 'manifest', doneBytes: 0, totalBytes: 0 });
      const artifact = await openArtifact(request.url, this.#environment.storage, signal);
      this.#unloadModel();
      const session = await this.#openSession();
      signal.throwIfAborted();
      this.#model = await session.guard(this.#loadModel(session, artifact, request, onProgress, signal));
      return this.#model.info;
    });
  }

  /** @throws InvalidRequestError without a model; EngineBusyError during another call; the GPU's failure */
  async chat(request: WireChatRequest, onDelta: (text: string) => void | Promise<void>): Promise<WireReply> {
    if (this.#running) throw new EngineBusyError();
    return this.#run(async (signal) => {
      const { generator } = this.#requireModel();
      const batcher = new DeltaBatcher(onDelta);
      const chatRequest = {
        messages: [...request.messages],
        sampling: request.sampling,
        maxTokens: request.maxTokens,
        ...(request.stop ? { stop: [...request.stop] } : {}),
        signal,
      };
      try {
        return await this.#session!.guard(generator.chat(chatRequest, (text) => batcher.push(text)));
      } finally {
        await batcher.flush();
      }
    });
  }

  /** Ends the running load or reply. A reply resolves with what it has; a load rejects with AbortError. */
  cancel(): void {
    this.#running?.abort.abort();
  }

  async unload(): Promise<void> {
    await this.#stopRunning();
    this.#unloadModel();
  }

  listStored(): Promise<StoredModelInfo[]> {
    return listStoredModels(this.#environment.storage);
  }

  deleteStored(url: string): Promise<void> {
    return deleteStoredModel(url, this.#environment.storage);
  }

  async #stopRunning(): Promise<void> {
    while (this.#running) {
      this.#running.abort.abort();
      await this.#running.done.catch(() => undefined);
    }
  }

  async #run<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const abort = new AbortController();
    const done = work(abort.signal);
    const running = { abort, done };
    this.#running = running;
    try {
      return await done;
    } finally {
      if (this.#running === running) this.#running = null;
    }
  }

  async #openSession(): Promise<GpuSession> {
    if (this.#session?.failure) {
      this.#session.close(); // frees whatever the failed model still holds
      this.#session = null;
    }
    this.#session ??= await GpuSession.open(this.#environment.gpu, (error) => {
      this.#model = null;
      this.#running?.abort.abort(error);
      this.#onFailure(error);
    });
    return this.#session;
  }

  async #loadModel(
    session: GpuSession,
    artifact: OpenArtifact,
    request: LoadRequest,
    onProgress: (progress: LoadProgress) => void,
    signal: AbortSignal,
  ): Promise<LoadedModel> {
    const loader = WeightsLoader.create(session.gpu, artifact.manifest);
    let files: LoadedFiles;
    try {
      const sink = {
        tensor: loader.write.bind(loader),
        // Bounds what the browser holds on its way to the GPU.
        shardDone: async () => void (await session.gpu.device.queue.onSubmittedWorkDone()),
      };
      files = await loadArtifact(artifact, sink, this.#environment.storage, {
        signal,
        onProgress: throttled(onProgress),
      });
    } catch (error) {
      loader.destroy();
      throw error;
    }
    const artifactBytes = totalBytes(artifact);
    onProgress({ phase: 'compile', doneBytes: artifactBytes, totalBytes: artifactBytes });
    const weights = await loader.finish();
    try {
      const tokenizer = ChatTokenizer.fromFiles(files.tokenizerFiles);
      const engine = await Engine.create(session.gpu, weights, { contextLength: request.contextLength });
      signal.throwIfAborted();
      const info = this.#describe(session, artifact, files, engine);
      return { info, engine, generator: new TextGenerator(engine, tokenizer) };
    } catch (error) {
      weights.arena.destroy();
      throw error;
    }
  }

  #describe(session: GpuSession, artifact: OpenArtifact, files: LoadedFiles, engine: Engine): ModelInfo {
    const { manifest, url } = artifact;
    return {
      url,
      name: manifest.name,
      scheme: manifest.scheme,
      actBits: manifest.quant?.actBits ?? null,
      contextLength: engine.contextLength,
      artifactBytes: totalBytes(artifact),
      networkBytes: files.networkBytes,
      storageProblem: files.storageProblem,
      gpuBytes: engine.memory,
      adapter: session.gpu.adapter,
      samplingDefaults: samplingDefaults(files.tokenizerFiles.get('generation_config.json')),
    };
  }

  #requireModel(): LoadedModel {
    if (!this.#model) throw new InvalidRequestError('no model is loaded');
    return this.#model;
  }

  #unloadModel(): void {
    this.#model?.engine.destroy();
    this.#model = null;
  }
}

function totalBytes({ manifest }: OpenArtifact): number {
  return [...manifest.shards, ...manifest.tokenizerFiles].reduce((sum, file) => sum + file.bytes, 0);
}

/** Passes on every change of phase and otherwise at most twenty reports a second. */
function throttled(onProgress: (progress: LoadProgress) => void): (progress: ArtifactProgress) => void {
  let last = { phase: '', atMs: 0 };
  return (progress) => {
    const atMs = performance.now();
    const complete = progress.doneBytes === progress.totalBytes;
    if (progress.phase === last.phase && atMs - last.atMs < 50 && !complete) return;
    last = { phase: progress.phase, atMs };
    onProgress(progress);
  };
}
