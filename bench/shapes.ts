/** Shapes and schemes that benchmarks know by name. */
import type { LlamaConfig } from '../src/format/config';
import type { KvCacheChoice } from '../src/format/kv-cache';
import { type ActBits, type SchemeName, schemeNames } from '../src/format/scheme';
import { modelShapes } from '../src/format/shapes';
import { BenchRequestError } from './figures';

const llama2 = modelShapes['llama-2-7b'];

/** Shapes small enough for a software adapter or a first impression, beside the published ones. */
export const benchShapes: Readonly<Record<string, LlamaConfig>> = {
  tiny: {
    ...llama2,
    ...{ hiddenSize: 256, intermediateSize: 768, numLayers: 2, numHeads: 4, numKvHeads: 4, headDim: 64 },
    vocabSize: 2048,
  },
  '1b': {
    ...llama2,
    ...{ hiddenSize: 2048, intermediateSize: 5632, numLayers: 22, numHeads: 32, numKvHeads: 4, headDim: 64 },
  },
  ...modelShapes,
};

/** @throws BenchRequestError naming the shapes there are */
export function shapeOf(name: string): LlamaConfig {
  const config = Object.hasOwn(benchShapes, name) ? benchShapes[name] : undefined;
  if (!config) {
    throw new BenchRequestError(`shape: expected ${Object.keys(benchShapes).join(', ')}, got ${name}`);
  }
  return config;
}

export interface BenchScheme {
  /** `mergequant-a4`; `fp16` has no bits. */
  readonly name: string;
  readonly scheme: SchemeName;
  readonly actBits: ActBits;
  readonly kvCache: KvCacheChoice;
  /** Of embedding and head. */
  readonly tableBits: 8 | 16;
  /** Prompt tokens of the largest pass; what suits the device when left out. */
  readonly chunkTokens?: number;
}

/** What the paper compares, and a control: float, dynamic, static in front of the norms' linears at 4 and 8 bits, all static. */
export const defaultSchemes = [
  'fp16',
  'rtn-dynamic-a4',
  'mergequant-a4',
  'mergequant-a8',
  'mergequant-static-a4',
] as const;

const kvCacheOfBits: Readonly<Record<string, KvCacheChoice>> = { '16': 'f16', '8': 'int8', '4': 'int4' };

const schemePattern = /^(.+?)(?:-a([48]))?(?:-kv(16|8|4))?(-e8)?(?:-c([1-9]\d{0,4}))?$/;

/**
 * `mergequant-a4`, and behind it, in this order, `-kv16`, `-kv8` or `-kv4` for a key-value cache of that many bits in place of the
 * engine's choice at the run's longest context, `-e8` for embedding and head of 8 bits, and `-c256` for prefill passes of at most so many
 * tokens: `mergequant-a4-kv8-e8`, `fp16-kv16`.
 * @throws BenchRequestError
 */
export function parseScheme(name: string): BenchScheme {
  const [, scheme, bits, kvBits, tableBits, chunk] = schemePattern.exec(name) ?? [];
  const known = schemeNames.find((candidate) => candidate === scheme);
  if (!known || (known === 'fp16') !== (bits === undefined)) {
    throw new BenchRequestError(
      `scheme: expected fp16 or a scheme with bits such as mergequant-a4 or mergequant-a4-kv8-e8, got ${name}`,
    );
  }
  return {
    name,
    scheme: known,
    actBits: bits === '8' ? 8 : 4,
    kvCache: kvCacheOfBits[kvBits ?? ''] ?? 'auto',
    tableBits: tableBits ? 8 : 16,
    ...(chunk ? { chunkTokens: Number(chunk) } : {}),
  };
}
