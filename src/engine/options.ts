/** What an engine is made with, checked and filled in. */
import { chosenKvCache, type KvCacheChoice, type KvCacheKind } from '../format/kv-cache';
import { chunkTokensFor } from '../format/memory-plan';
import type { Gpu } from '../gpu/gpu';
import type { PersistentTuning } from '../kernels/persistent-token';
import type { ModelWeights } from '../model/weights';
import type { TuningStore } from './decode-tuning';
import { mostVerified } from './draft-verifier';
import { InvalidRequestError } from './errors';

export interface EngineOptions {
  /** Tokens the KV cache holds; the model's own maximum when left out. */
  readonly contextLength?: number;
  /** Prompt tokens of the largest prefill pass; what suits the device when left out. */
  readonly chunkTokens?: number;
  /**
   * How keys and values are kept: `int8` and `int4` take a half and a quarter of the memory of `f16`. Default `auto`: by the length of
   * the context, see {@link chosenKvCache}.
   */
  readonly kvCache?: KvCacheChoice;
  /**
   * Decode in one dispatch a token where the model's weights are packed ({@link WeightsLoader.create}), the GPU can, and the
   * results are those of the ordinary kernels; `Engine.persistent` says whether. Tuning is for tests and benchmarks.
   */
  readonly persistentDecode?: boolean | PersistentTuning;
  /**
   * Tokens drafted at most for one pass of greedy decoding from what the text holds already, 0 to 7; 0, the default, is off.
   * The same tokens either way. An experiment: see docs/LOG.md.
   */
  readonly promptLookup?: number;
  /**
   * Times workgroup shapes of decode's products on the loaded weights (for 0.3 s, and the time to compile them) and takes the fastest; changes no
   * result. With a store what was found is kept for the next load. Default `off`; off on software adapters, too.
   */
  readonly tune?: 'off' | 'auto' | TuningStore;
}

/** {@link EngineOptions} without gaps. */
export interface ResolvedOptions {
  readonly contextLength: number;
  readonly chunkTokens: number;
  readonly kvCache: KvCacheKind;
  /** Null where the whole-token kernel was not asked for. */
  readonly persistentDecode: PersistentTuning | null;
  readonly promptLookup: number;
  /** Null where decode is not tuned. */
  readonly tune: { readonly store: TuningStore | null } | null;
}

/** @throws InvalidRequestError for a number out of range, and when a layer is to be checked behind a cache with codes */
export function resolveOptions(gpu: Gpu, weights: ModelWeights, options: EngineOptions): ResolvedOptions {
  const { promptLookup = 0, persistentDecode = false, tune = 'off' } = options;
  const contextLength = options.contextLength ?? weights.layout.config.maxPositionEmbeddings;
  const mustBeHalves = weights.checked !== null || persistentDecode !== false;
  const kvCache = chosenKvCache(options.kvCache ?? 'auto', contextLength, mustBeHalves);
  if (weights.checked && kvCache !== 'f16') {
    throw new InvalidRequestError(`the layer check reads a KV cache of kind f16, got ${kvCache}`);
  }
  if (!Number.isInteger(promptLookup) || promptLookup < 0 || promptLookup >= mostVerified) {
    throw new InvalidRequestError(
      `promptLookup: expected 0 to ${mostVerified - 1} tokens, got ${promptLookup}`,
    );
  }
  if (
    options.chunkTokens !== undefined &&
    !(Number.isInteger(options.chunkTokens) && options.chunkTokens > 0)
  ) {
    throw new InvalidRequestError(`chunkTokens: expected at least 1 token, got ${options.chunkTokens}`);
  }
  const { caps, device } = gpu;
  const most = chunkTokensFor(device.limits.maxStorageBufferBindingSize, caps.software);
  return {
    contextLength,
    chunkTokens: Math.min(options.chunkTokens ?? most, contextLength),
    kvCache,
    persistentDecode: persistentDecode === true ? {} : persistentDecode || null,
    promptLookup,
    tune: tune === 'off' || caps.software ? null : { store: tune === 'auto' ? null : tune },
  };
}
