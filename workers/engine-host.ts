/** The engine behind the worker's protocol: loads one model at a time, chats with it, stops when told. */
import type { TuningStore } from '../src/engine/decode-tuning';
import { EngineBusyError, InvalidRequestError } from '../src/engine/errors';
import { SelfTestError, selfTest } from '../src/engine/self-test';
import { WebGpuUnavailableError } from '../src/gpu/gpu';
import { type OpenArtifact, openArtifact, type StorageEnvironment } from '../src/storage/open-artifact';
import { PauseGate } from '../src/storage/pause';
import { storeFolder } from '../src/storage/store-folder';
import { deleteStoredModel, listStoredModels } from '../src/storage/stored-models';
import { DeltaBatcher } from './delta-batcher';
import { checkLimits, kvCacheOf, withShorterContext } from './fit';
import { GpuSession } from './gpu-session';
import { type LoadedModel, loadModel, type WantedModel } from './model-loader';
import type {
  FolderProgress,
  FolderRequest,
  GpuReport,
  LoadProgress,
  LoadRequest,
  ModelInfo,
  SelfTestReport,
  StoredModelInfo,
  WireChatRequest,
  WireReply,
} from './protocol';
import type { ThreadLike } from './tokenizer-thread';

/** Everything outside the host. */
export interface HostEnvironment {
  readonly gpu: GPU | undefined;
  /** The page came over HTTPS or from this machine; browsers offer WebGPU nowhere else. */
  readonly secure: boolean;
  readonly storage: StorageEnvironment;
  /** Keeps what decode was tuned to; without it decode is not tuned. */
  readonly tunings?: TuningStore;
  /** Starts a thread for chat templates and tokenizers; without one they run in this one. */
  readonly openTokenizerThread?: () => ThreadLike;
}

export class EngineHost {
  readonly #environment: HostEnvironment;
  readonly #onFailure: (error: Error) => void;
  #session: GpuSession | null = null;
  #model: LoadedModel | null = null;
  #running: { readonly abort: AbortController; readonly done: Promise<unknown> } | null = null;
  #pause = new PauseGate();
  /** Why only kernels without optional features are used; null while the others compute rightly. */
  #plainBecause: string | null = null;
  #hasFailed = false;

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

  /**
   * A model whose manifest cannot be read, or that exceeds the GPU's limits, is refused in the phase `manifest`: the present one stays.
   * @throws what storage, tokenizer, model and engine throw; AbortError when cancelled
   */
  async load(request: LoadRequest, onProgress: (progress: LoadProgress) => void): Promise<ModelInfo> {
    await this.#stopRunning();
    return this.#run(async (signal) => {
      this.#pause = new PauseGate();
      onProgress({ phase: 'manifest', doneBytes: 0, totalBytes: 0 });
      const artifact = await openArtifact(request.url, this.#environment.storage, signal);
      let session = await this.#openSession();
      const contextLength = request.contextLength ?? artifact.manifest.config.maxPositionEmbeddings;
      const { kvCache = 'auto', persistentDecode = false, checkLayer = null } = request;
      const wanted = { contextLength, kvCache, persistentDecode, checkLayer };
      checkLimits(artifact.manifest, wanted, session.gpu.device.limits, session.gpu.caps.software);
      signal.throwIfAborted();
      this.#unloadModel();
      onProgress({ phase: 'self-test', doneBytes: 0, totalBytes: 0 });
      const checked = await this.#checkGpu(session, artifact, wanted);
      session = checked.session;
      signal.throwIfAborted();
      const { storage, tunings, openTokenizerThread } = this.#environment;
      const job = { session, artifact, wanted, storage, tunings, openTokenizerThread, onProgress, signal };
      const work = loadModel({ ...job, pause: this.#pause, selfTest: checked.report });
      this.#model = await session.guard(work);
      return this.#model.info;
    });
  }

  /** @throws InvalidRequestError without a model; EngineBusyError during another call; the GPU's failure */
  async chat(request: WireChatRequest, onDelta: DeltaBatcher['send']): Promise<WireReply> {
    if (this.#running) throw new EngineBusyError();
    return this.#run(async (signal) => {
      const { generator } = this.#requireModel();
      const batcher = new DeltaBatcher(onDelta);
      const chatRequest = { ...request, signal };
      try {
        const reply = generator.chat(chatRequest, (text, logprobs) => batcher.push(text, logprobs));
        return await this.#session!.guard(reply);
      } finally {
        await batcher.flush();
      }
    });
  }

  /** Ends the running load or reply. A reply resolves with what it has; a load rejects with AbortError. */
  cancel(): void {
    this.#running?.abort.abort();
  }

  /** Holds a running download; it keeps what it has. */
  pause(): void {
    if (this.#running) this.#pause.pause();
  }

  resume(): void {
    this.#pause.resume();
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

  /** @throws FolderError, IntegrityError, ManifestError, or what the browser's storage throws */
  storeFolder({ url, files }: FolderRequest, onProgress: (progress: FolderProgress) => void): Promise<void> {
    const byName = new Map(files.map((file) => [file.name, file]));
    return storeFolder(url, byName, this.#environment.storage, onProgress);
  }

  async #stopRunning(): Promise<void> {
    while (this.#running) {
      this.#running.abort.abort();
      await this.#running.done.catch(() => undefined);
    }
  }

  async #run<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const abort = new AbortController();
    const done = Promise.resolve().then(() => work(abort.signal)); // `work` may cancel at once
    const running = { abort, done };
    this.#running = running;
    try {
      return await done;
    } finally {
      if (this.#running === running) this.#running = null;
    }
  }

  async #openSession(): Promise<GpuSession> {
    if (this.#session?.failure) this.#closeSession(); // frees whatever the failed model still holds
    const onFailure = (error: Error) => {
      this.#model?.thread?.close();
      this.#model = null;
      this.#hasFailed = true;
      this.#running?.abort.abort(error);
      this.#onFailure(error);
    };
    const plain = { without: ['subgroups', 'shader-f16', 'packed-dot'] } as const;
    const options = this.#plainBecause === null ? {} : plain;
    try {
      this.#session ??= await GpuSession.open(this.#environment.gpu, onFailure, options);
    } catch (error) {
      if (!this.#hasFailed || !(error instanceof WebGpuUnavailableError)) throw error;
      const words =
        'the browser gives no GPU any more after its graphics process crashed: restart the browser';
      throw new WebGpuUnavailableError(words, { cause: error });
    }
    return this.#session;
  }

  #closeSession(): void {
    this.#session?.close();
    this.#session = null;
  }

  /**
   * Holds this GPU against the reference, with kernels as the model's. Where the fast ones are wrong, the plain ones are tried.
   * @throws SelfTestError when they are wrong, too
   */
  async #checkGpu(
    session: GpuSession,
    artifact: OpenArtifact,
    wanted: WantedModel,
  ): Promise<{ session: GpuSession; report: SelfTestReport }> {
    const { contextLength, checkLayer } = wanted;
    const kvCache = kvCacheOf(wanted, checkLayer !== null);
    const start = performance.now();
    try {
      await session.guard(selfTest(session.gpu, artifact.manifest, contextLength, kvCache));
    } catch (error) {
      if (!(error instanceof SelfTestError)) throw withShorterContext(error, contextLength, false);
      if (this.#plainBecause !== null) throw error;
      this.#plainBecause = error.message;
      this.#closeSession();
      return this.#checkGpu(await this.#openSession(), artifact, wanted);
    }
    return { session, report: { ms: performance.now() - start, plainBecause: this.#plainBecause } };
  }

  #requireModel(): LoadedModel {
    if (!this.#model) throw new InvalidRequestError('no model is loaded');
    return this.#model;
  }

  #unloadModel(): void {
    this.#model?.engine.destroy();
    this.#model?.thread?.close();
    this.#model = null;
  }
}
