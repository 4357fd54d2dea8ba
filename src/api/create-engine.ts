/** The library's front door in a browser: a model in a worker, and `chat.completions` over it. */
import type { LoadProgress, ModelInfo } from '../../workers/protocol';
import type { KvCacheChoice } from '../format/kv-cache';
import { type EngineRequest, textRequest } from './chat-request';
import { EngineClient, type EngineClientOptions, WorkerDiedError } from './client';
import { type ChatBackend, ChatCompletions } from './completions';

/** What to load, and who hears of it. */
export interface CreateEngineOptions {
  /** Address of the artifact folder; relative ones start at the page. */
  readonly model: string;
  /** Tokens of context; the model's own maximum when left out. */
  readonly contextLength?: number;
  /**
   * How keys and values of past tokens are kept: `f16`, or codes of 8 or 4 bits in a half or a quarter of the memory. Default `auto`: `f16` for
   * short contexts, `int8` from 2,048 tokens on; `info.kvCache` says which.
   */
  readonly kvCache?: KvCacheChoice;
  /**
   * All layers of a decoded token in one dispatch, where the GPU can, the results are those of the ordinary kernels bit for bit, and
   * it is faster: `info.persistentDecode` says what came of it. Default false.
   */
  readonly persistentDecode?: boolean;
  /** Debug: a layer that every pass holds against the float64 reference; a reply then fails with LayerCheckError where they differ. */
  readonly checkLayer?: number;
  /** Hears how the loading goes, many times a second. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Hears of a GPU or worker that fails later, while nothing is asked. The engine is of no use then. */
  readonly onFailure?: (error: Error) => void;
  /** Ends the loading; `createEngine` then rejects with its reason. */
  readonly signal?: AbortSignal;
  /** Starts the worker, for pages that host its script themselves. */
  readonly createWorker?: EngineClientOptions['createWorker'];
}

/** A loaded model. */
export interface ChatEngine {
  readonly chat: { readonly completions: ChatCompletions };
  /** What was loaded: name, scheme, context, bytes, adapter. */
  readonly info: ModelInfo;
  /** Ends the worker and frees the GPU; pending calls reject with WorkerDiedError. */
  destroy(): void;
}

/**
 * Downloads (or finds stored), checks and loads a model.
 * @throws RemoteError with the name of what went wrong (`DownloadError`, `IntegrityError`, `ManifestError`,
 * `WebGpuUnavailableError`, `GpuMemoryError` …), WorkerDiedError, or the signal's reason
 */
export async function createEngine(options: CreateEngineOptions): Promise<ChatEngine> {
  const {
    contextLength,
    kvCache,
    persistentDecode,
    checkLayer,
    onProgress = () => undefined,
    onFailure,
    signal,
    createWorker,
  } = options;
  signal?.throwIfAborted();
  const client = new EngineClient({
    ...(onFailure ? { onFailure } : {}),
    ...(createWorker ? { createWorker } : {}),
  });
  const abort = () => client.terminate();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const url = new URL(options.model, globalThis.document?.baseURI).href;
    const request = {
      url,
      ...(contextLength ? { contextLength } : {}),
      ...(kvCache ? { kvCache } : {}),
      ...(persistentDecode ? { persistentDecode } : {}),
      ...(checkLayer === undefined ? {} : { checkLayer }),
    };
    const info = await client.load(request, onProgress);
    const end = new AbortController();
    return {
      chat: { completions: new ChatCompletions(workerBackend(client, info, end.signal)) },
      info,
      destroy: () => {
        end.abort();
        client.terminate();
      },
    };
  } catch (error) {
    client.terminate();
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** After `destroyed` the client, which would start another worker, is not asked any more. */
function workerBackend(client: EngineClient, info: ModelInfo, destroyed: AbortSignal): ChatBackend {
  return {
    modelName: info.name,
    defaults: { contextLength: info.contextLength, sampling: info.samplingDefaults },
    async chat(request: EngineRequest, onDelta, signal) {
      if (destroyed.aborted) throw new WorkerDiedError('the engine was destroyed');
      // A worker that is gone has ended the reply already.
      const cancel = () => client.cancel().catch(() => undefined);
      signal.addEventListener('abort', cancel, { once: true });
      try {
        return await client.chat(textRequest(request), onDelta);
      } finally {
        signal.removeEventListener('abort', cancel);
      }
    },
  };
}
