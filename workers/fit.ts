/** Whether a model fits a GPU, before anything is downloaded or allocated; and what would fit instead. */

import { chosenKvCache, type KvCacheChoice, type KvCacheKind } from '../src/format/kv-cache';
import type { Manifest } from '../src/format/manifest';
import { chunkTokensFor, planMemory } from '../src/format/memory-plan';
import { GpuMemoryError } from '../src/gpu/arena';
import { bytesText } from '../src/gpu/bytes-text';

/** A model that this GPU cannot hold with the context asked for. */
export class ModelTooLargeError extends Error {
  override readonly name = 'ModelTooLargeError';
  constructor(
    readonly buffer: string,
    readonly wantedBytes: number,
    readonly reason: string,
    /** A context that may fit; null when no context does. */
    readonly suggestedContextLength: number | null,
    options?: ErrorOptions,
  ) {
    const advice =
      suggestedContextLength === null
        ? 'no shorter context helps: this model needs a larger GPU'
        : `a context of ${suggestedContextLength} tokens may fit`;
    super(
      `this GPU cannot hold the model: ${buffer} takes ${bytesText(wantedBytes)}, ${reason}; ${advice}`,
      options,
    );
  }
}

/** Shorter contexts than this are of no use. */
const leastContext = 128;

/** What the memory of a loaded model depends on, beside its weights. */
export interface WantedCache {
  readonly contextLength: number;
  readonly kvCache: KvCacheChoice;
  readonly persistentDecode: boolean;
}

/** How the engine will keep keys and values. */
export function kvCacheOf(
  { kvCache, contextLength, persistentDecode }: WantedCache,
  mustBeHalves: boolean,
): KvCacheKind {
  return chosenKvCache(kvCache, contextLength, persistentDecode || mustBeHalves);
}

/** @throws ModelTooLargeError when a buffer would exceed what the device binds */
export function checkLimits(
  manifest: Manifest,
  wanted: WantedCache,
  limits: Pick<GPUSupportedLimits, 'maxBufferSize' | 'maxStorageBufferBindingSize'>,
  isSoftware: boolean,
): void {
  const most = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
  const { contextLength } = wanted;
  const largestOf = (tokens: number) => {
    const chunkTokens = Math.min(chunkTokensFor(most, isSoftware), tokens);
    const options = { ...manifest, ...wanted, contextLength: tokens, chunkTokens, bindingBytes: most };
    return planMemory(options).largestBinding;
  };
  const largest = largestOf(contextLength);
  if (largest.bytes <= most) return;
  let shorter = contextLength >> 1;
  while (shorter >= leastContext && largestOf(shorter).bytes > most) shorter >>= 1;
  const suggested = shorter >= leastContext ? shorter : null;
  throw new ModelTooLargeError(
    largest.label,
    largest.bytes,
    `and it binds at most ${bytesText(most)}`,
    suggested,
  );
}

/** GPU bytes of keys and values at `contextLength`, by kind. */
export function kvCacheBytesByKind(manifest: Manifest, contextLength: number): Record<KvCacheKind, number> {
  const bytes = (kvCache: KvCacheKind) =>
    planMemory({ ...manifest, contextLength, kvCache, chunkTokens: 1 }).bytesByCategory['kv-cache'];
  return { f16: bytes('f16'), int8: bytes('int8'), int4: bytes('int4') };
}

/** What becomes of a GPU out of memory: half the context, where that helps. Other errors stay what they are. */
export function withShorterContext(error: unknown, contextLength: number, isWeights: boolean): unknown {
  if (!(error instanceof GpuMemoryError)) return error;
  const half = contextLength >> 1;
  const suggested = isWeights || half < leastContext ? null : half;
  return new ModelTooLargeError(error.label, error.wantedBytes, error.reason, suggested, { cause: error });
}
