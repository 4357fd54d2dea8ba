/** What crosses between the page and the engine's worker: plain structured-cloneable data, and errors made of it. */
import type { ProxyMarked, Remote } from 'comlink';
import type { TextLogprobs } from '../src/chat/text-logprobs';
import type { FinishReason, ReplyStats, SamplingOptions } from '../src/engine/types';
import type { KvCacheChoice, KvCacheKind } from '../src/format/kv-cache';
import type { ActBits, SchemeName, WeightBits } from '../src/format/scheme';
import type { AdapterSummary } from '../src/gpu/gpu';
import type { ArtifactProgress } from '../src/storage/load-artifact';
import type { FolderProgress } from '../src/storage/store-folder';
import type { StoredModelInfo } from '../src/storage/stored-models';

export type { FolderProgress, StoredModelInfo };

/** Whether this browser can run the engine and, if not, why. */
export type GpuReport =
  | { readonly available: true; readonly adapter: AdapterSummary }
  | {
      readonly available: false;
      /** `insecure`: not HTTPS or localhost; `missing`: no WebGPU in this browser; `no-adapter`: no GPU it may use. */
      readonly reason: 'insecure' | 'missing' | 'no-adapter';
      readonly message: string;
    };

export interface LoadRequest {
  /** The artifact folder's address. */
  readonly url: string;
  /** At most the model's own; a shorter context takes less GPU memory. */
  readonly contextLength?: number;
  /** How keys and values are kept: codes of 8 or 4 bits take less GPU memory; by the length of the context when left out. */
  readonly kvCache?: KvCacheChoice;
  /** All layers of a decoded token in one dispatch, where the GPU can, the results are equal and it is faster. */
  readonly persistentDecode?: boolean;
  /** Debug: a layer that every pass holds against the float64 reference. */
  readonly checkLayer?: number;
}

/** How far a loading model is. Bytes are of the present phase, where it counts any. Until `manifest` ends the model before stays. */
export interface LoadProgress {
  readonly phase: 'manifest' | ArtifactProgress['phase'] | 'compile' | 'self-test';
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Bytes of the files that were not stored when loading began. */
  readonly missingBytes?: number;
}

/** An artifact folder from this computer. */
export interface FolderRequest {
  /** The address it is to be known by; nothing is fetched from there. */
  readonly url: string;
  readonly files: readonly File[];
}

/** What came of trying to decode in one dispatch a token when the model was loaded. */
export type PersistentReport =
  | { readonly isOn: true; readonly groups: number }
  | { readonly isOn: false; readonly reason: string };

/** What was loaded, from where, and onto what. */
export interface ModelInfo {
  readonly url: string;
  readonly name: string;
  readonly scheme: SchemeName;
  /** null where activations are float. */
  readonly actBits: ActBits | null;
  /** null where weights are float. */
  readonly weightBits: WeightBits | null;
  readonly contextLength: number;
  readonly artifactBytes: number;
  /** Bytes that came over the network this time; 0 when everything was stored. */
  readonly networkBytes: number;
  /** Why the next visit has to download again; null when everything is stored. */
  readonly storageProblem: string | null;
  /** GPU bytes by category. */
  readonly gpuBytes: Readonly<Record<string, number>>;
  /** How keys and values of past tokens are kept. */
  readonly kvCache: KvCacheKind;
  /** GPU bytes that they take at this context, by kind. */
  readonly kvCacheBytes: Readonly<Record<KvCacheKind, number>>;
  /** Whether tokens are decoded in one dispatch, and if not, why; null where it was not asked for. */
  readonly persistentDecode: PersistentReport | null;
  readonly adapter: AdapterSummary;
  /** How this GPU did against the reference. */
  readonly selfTest: SelfTestReport;
  /** What the manifest says about the making of the artifact; free in form. */
  readonly provenance: Readonly<Record<string, unknown>>;
  /** What the model's generation_config.json says about sampling. */
  readonly samplingDefaults: Partial<SamplingOptions>;
}

export interface SelfTestReport {
  readonly ms: number;
  /** Why the kernels that need no optional feature are used; null when the fast ones compute rightly. */
  readonly plainBecause: string | null;
}

export interface WireMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export interface WireChatRequest {
  readonly messages: readonly WireMessage[];
  readonly sampling: SamplingOptions;
  readonly maxTokens: number;
  readonly stop?: readonly string[];
  /** Token id → what is added to its logit. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** Log-probabilities of every token, and of this many of the most probable ones; none when left out. */
  readonly topLogprobs?: number;
  /** The reply is one JSON object. */
  readonly json?: boolean;
}

export interface WireReply {
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly promptIds: readonly number[];
  readonly logprobs?: readonly TextLogprobs[];
  readonly finishReason: FinishReason;
  readonly stats: ReplyStats;
}

/** An error as data. Comlink would drop everything but name, message and stack. */
export interface WireError {
  readonly name: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;
}

export type WireResult<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: WireError };

/** What the worker offers. One load or reply runs at a time; `cancel` ends it at any stage. */
export interface EngineWorkerApi {
  probe(): Promise<WireResult<GpuReport>>;
  /** Replaces the loaded model. Cancels what is running. */
  load(request: LoadRequest, onProgress: (progress: LoadProgress) => void): Promise<WireResult<ModelInfo>>;
  /** Streams text, and log-probabilities when asked for, through `onDelta`; the reply holds the whole of both. */
  chat(
    request: WireChatRequest,
    onDelta: (text: string, logprobs?: readonly TextLogprobs[]) => void,
  ): Promise<WireResult<WireReply>>;
  cancel(): Promise<WireResult<void>>;
  /** Holds a running download, which keeps what it has; `resume` lets it go on. */
  pause(): Promise<WireResult<void>>;
  resume(): Promise<WireResult<void>>;
  /** Answers at once unless the worker hangs. */
  ping(): Promise<WireResult<void>>;
  unload(): Promise<WireResult<void>>;
  listStored(): Promise<WireResult<StoredModelInfo[]>>;
  deleteStored(url: string): Promise<WireResult<void>>;
  /** Checks an artifact folder and stores it under the address it can then be loaded from. */
  storeFolder(
    request: FolderRequest,
    onProgress: (progress: FolderProgress) => void,
  ): Promise<WireResult<void>>;
  /** `onFailure` hears of a GPU that fails, whether or not a call is pending. */
  watchFailure(onFailure: (error: WireError) => void): Promise<WireResult<void>>;
}

/** The worker as the page sees it. */
export type RemoteEngine = Remote<EngineWorkerApi>;
/** A callback that stays on its own side; the other side gets a message port to it. */
export type WireCallback<T> = ((value: T) => void) & ProxyMarked;

/** An error that happened in the worker. `name` is the original class's name, `details` its plain fields. */
export class RemoteError extends Error {
  override readonly name: string;
  readonly details: WireError['details'];

  /** @internal */
  constructor(error: WireError) {
    super(error.message);
    this.name = error.name;
    this.details = error.details;
  }
}

export function serializeError(error: unknown): WireError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), details: {} };
  const plain = Object.entries(error).filter(
    ([key, value]) => key !== 'name' && (value === null || /^(string|number|boolean)$/.test(typeof value)),
  );
  return { name: error.name, message: error.message, details: Object.fromEntries(plain) };
}

/** Waits for `work` and wraps what becomes of it. */
export async function settle<T>(work: () => T | Promise<T>): Promise<WireResult<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    return { ok: false, error: serializeError(error) };
  }
}

/** @throws RemoteError when the result is an error */
export function unwrap<T>(result: WireResult<T>): T {
  if (!result.ok) throw new RemoteError(result.error);
  return result.value;
}
