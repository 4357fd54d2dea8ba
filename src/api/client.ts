/** The page's end of the engine's worker. No call is left hanging when the worker or the GPU fails. */
import { proxy, wrap } from 'comlink';
import {
  type EngineWorkerApi,
  type FolderProgress,
  type FolderRequest,
  type GpuReport,
  type LoadProgress,
  type LoadRequest,
  type ModelInfo,
  type RemoteEngine,
  RemoteError,
  type StoredModelInfo,
  unwrap,
  type WireCallback,
  type WireChatRequest,
  type WireReply,
  type WireResult,
} from '../../workers/protocol';
import type { OnDelta } from '../chat/text-generator';

/** The worker crashed, could not start, or was terminated. The client starts a new one at the next call. */
export class WorkerDiedError extends Error {
  override readonly name = 'WorkerDiedError';
}

/** Between two questions whether the worker still answers, while a call is pending. */
const heartbeatMs = 5_000;
/** Questions in a row without an answer after which it counts as hanging: a template or tokenizer that never ends. */
const missedBeats = 4;

/** The part of a Worker that the client uses; tests pass a message port. */
export type WorkerLike = Pick<
  Worker,
  'postMessage' | 'addEventListener' | 'removeEventListener' | 'terminate'
>;

export interface EngineClientOptions {
  readonly createWorker?: () => WorkerLike;
  /** Hears of a GPU or worker that fails while nothing is pending, too. The loaded model is gone then. */
  readonly onFailure?: (error: Error) => void;
  /** For tests; default 5 s. Four unanswered in a row end the worker. */
  readonly heartbeatMs?: number;
}

interface Connection {
  readonly worker: WorkerLike;
  readonly engine: RemoteEngine;
  readonly died: Promise<never>;
  readonly die: (error: Error) => void;
}

function startWorker(): WorkerLike {
  return new Worker(new URL('../../workers/engine.worker.ts', import.meta.url), { type: 'module' });
}

export class EngineClient {
  readonly #options: EngineClientOptions;
  #connection: Connection | null = null;

  constructor(options: EngineClientOptions = {}) {
    this.#options = options;
  }

  /** Whether this browser can run the engine. */
  probe(): Promise<GpuReport> {
    return this.#call((engine) => engine.probe());
  }

  /** Loads a model in place of the present one. @throws RemoteError, WorkerDiedError */
  load(request: LoadRequest, onProgress: (progress: LoadProgress) => void): Promise<ModelInfo> {
    return this.#call((engine) => engine.load(request, callback(onProgress)));
  }

  /** Streams one reply. @throws RemoteError, WorkerDiedError */
  chat(request: WireChatRequest, onDelta: OnDelta): Promise<WireReply> {
    return this.#call((engine) => engine.chat(request, proxy(onDelta)));
  }

  /** Ends the running load or reply, if any. */
  cancel(): Promise<void> {
    return this.#call((engine) => engine.cancel());
  }

  /** Holds the running download; it keeps what it has. */
  pause(): Promise<void> {
    return this.#call((engine) => engine.pause());
  }

  resume(): Promise<void> {
    return this.#call((engine) => engine.resume());
  }

  /** Frees the model's GPU memory. */
  unload(): Promise<void> {
    return this.#call((engine) => engine.unload());
  }

  listStored(): Promise<StoredModelInfo[]> {
    return this.#call((engine) => engine.listStored());
  }

  deleteStored(url: string): Promise<void> {
    return this.#call((engine) => engine.deleteStored(url));
  }

  /** Stores an artifact folder from this computer. @throws RemoteError, WorkerDiedError */
  storeFolder(request: FolderRequest, onProgress: (progress: FolderProgress) => void): Promise<void> {
    return this.#call((engine) => engine.storeFolder(request, callback(onProgress)));
  }

  /** Ends the worker at once; pending calls reject with WorkerDiedError. */
  terminate(): void {
    this.#connection?.die(new WorkerDiedError('the engine was terminated'));
  }

  async #call<T>(send: (engine: RemoteEngine) => Promise<WireResult<T>>): Promise<T> {
    this.#connection ??= this.#connect();
    const connection = this.#connection;
    const stopHeartbeat = this.#watch(connection);
    try {
      return unwrap(await Promise.race([send(connection.engine), connection.died]));
    } finally {
      stopHeartbeat();
    }
  }

  /**
   * Asks a busy worker regularly whether it is alive. Beats are counted, not time: a page that the browser froze for an hour has
   * missed none.
   */
  #watch({ engine, die }: Connection): () => void {
    const everyMs = this.#options.heartbeatMs ?? heartbeatMs;
    let unanswered = 0;
    const timer = setInterval(() => {
      if (unanswered >= missedBeats) {
        const seconds = (unanswered * everyMs) / 1000;
        die(new WorkerDiedError(`the engine's worker has not answered for ${seconds} s and was ended`));
        return;
      }
      unanswered++;
      engine.ping().then(
        () => {
          unanswered = 0;
        },
        () => undefined, // a worker that cannot be asked counts as one that does not answer
      );
    }, everyMs);
    return () => clearInterval(timer);
  }

  #connect(): Connection {
    const worker = (this.#options.createWorker ?? startWorker)();
    const engine = wrap<EngineWorkerApi>(worker as Worker);
    let reject: (error: Error) => void = () => undefined;
    const died = new Promise<never>((_, rejectDied) => {
      reject = rejectDied;
    });
    died.catch(() => undefined); // whoever has a call pending hears of it
    const die = (error: Error) => {
      if (this.#connection?.worker !== worker) return;
      this.#connection = null;
      worker.terminate();
      reject(error);
      this.#options.onFailure?.(error);
    };
    worker.addEventListener('error', (event) => {
      const message = 'message' in event && event.message ? event.message : 'its script could not be loaded';
      die(new WorkerDiedError(`the engine's worker failed: ${message}`));
    });
    worker.addEventListener('messageerror', () =>
      die(new WorkerDiedError("the engine's worker sent a message that cannot be read")),
    );
    const onFailure: WireCallback<ConstructorParameters<typeof RemoteError>[0]> = callback((error) =>
      this.#options.onFailure?.(new RemoteError(error)),
    );
    engine.watchFailure(onFailure).catch(() => undefined);
    return { worker, engine, died, die };
  }
}

/** Marks a function as one that stays here, with a message port of its own. */
function callback<T>(listener: (value: T) => void): WireCallback<T> {
  return proxy(listener);
}
