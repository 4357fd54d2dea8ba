/** What a model will take: files to download, bytes on the GPU by buffer, and the largest binding. */
import type { LlamaConfig } from './config';
import { FormatError } from './errors';
import { chosenKvCache, type KvCacheChoice, type KvCacheKind } from './kv-cache';
import type { DenseDtype, QuantSpec } from './manifest';
import {
  cacheBuffers,
  type PlanBuffer,
  type PlanCategory,
  scratchBuffers,
  weightBuffers,
} from './plan-buffers';
import { buildSafetensorsHeader } from './safetensors';
import { type ActBits, type ReconstructMode, type SchemeName, schemeModes, type WeightBits } from './scheme';
import { assignShards, defaultMaxTensorBytes } from './shards';
import { type ModelLayout, paddedInputs, storedTensors, tensorBytes, tensorSpecs } from './tensors';
import type { WeightGrid } from './weight-grid';

export interface PlanOptions {
  readonly config: LlamaConfig;
  readonly scheme: SchemeName;
  /** Tokens that the KV cache holds. */
  readonly contextLength: number;
  /** Of an existing artifact. Otherwise layers are assumed from `actBits` and `reconstruct`. */
  readonly quant?: QuantSpec | null;
  /** Default 4. */
  readonly actBits?: ActBits;
  /** Default 4. */
  readonly weightBits?: WeightBits;
  /** Default null: one scale a row. */
  readonly weightGrid?: WeightGrid | null;
  /** Default `pad`. */
  readonly reconstruct?: ReconstructMode;
  /** Default F16. */
  readonly denseDtype?: DenseDtype;
  /** Embedding and head as bytes with a scale a row; left out or 16: in `denseDtype`. */
  readonly embeddingBits?: 8 | 16;
  readonly headBits?: 8 | 16;
  /** How keys and values are kept; default `auto`. */
  readonly kvCache?: KvCacheChoice;
  /** Decoding in one dispatch a token is asked for, which takes a buffer of its own and reads halves alone. */
  readonly persistentDecode?: boolean;
  /** Tokens of one prefill pass; default 256. */
  readonly chunkTokens?: number;
  /** Weights with more bytes than this are split by rows; default 128 MiB, what every WebGPU device binds. */
  readonly bindingBytes?: number;
}

export interface DeviceLimits {
  readonly name: string;
  readonly maxStorageBufferBindingSize: number;
  readonly maxBufferSize: number;
}

export interface MemoryPlan {
  readonly scheme: SchemeName;
  readonly actBits: ActBits | null;
  readonly weightBits: WeightBits | null;
  readonly contextLength: number;
  readonly chunkTokens: number;
  readonly denseDtype: DenseDtype;
  readonly embeddingBits: 8 | undefined;
  readonly headBits: 8 | undefined;
  /** The kind that was asked for or chosen. */
  readonly kvCache: KvCacheKind;
  readonly files: { readonly shards: number; readonly tensors: number; readonly downloadBytes: number };
  readonly buffers: readonly PlanBuffer[];
  readonly bytesByCategory: Readonly<Record<PlanCategory, number>>;
  readonly gpuBytes: number;
  readonly largestBinding: { readonly label: string; readonly bytes: number };
  /** The largest matrix, had it not been split. */
  readonly largestMatrix: { readonly label: string; readonly bytes: number };
  readonly limits: readonly (DeviceLimits & { readonly fits: boolean })[];
  /** What was assumed where nothing was known. */
  readonly assumptions: readonly string[];
}

const MiB = 2 ** 20;
const defaultChunkTokens = 256;
const defaultBindingBytes = 128 * MiB;
/** Columns that splitting strong channels adds, as part of D: the upper end of what is expected. */
const assumedGrowth = 0.015;

/**
 * Prompt tokens of the largest prefill pass on a device that can bind `bindingBytes`: large GPUs fill up with more, an
 * adapter that computes on the CPU would only take memory for them.
 */
export function chunkTokensFor(bindingBytes: number, isSoftware: boolean): number {
  return bindingBytes >= 2 ** 30 && !isSoftware ? 1024 : defaultChunkTokens;
}

/** WebGPU's guaranteed limits, and what adapters were seen to offer in Chromium. */
export const knownLimits: readonly DeviceLimits[] = [
  { name: 'WebGPU default', maxStorageBufferBindingSize: 128 * MiB, maxBufferSize: 256 * MiB },
  {
    name: 'software adapter (SwiftShader)',
    maxStorageBufferBindingSize: 1024 * MiB,
    maxBufferSize: 1024 * MiB,
  },
  {
    name: 'desktop NVIDIA (Vulkan)',
    maxStorageBufferBindingSize: 2048 * MiB - 4,
    maxBufferSize: 4096 * MiB - 4,
  },
];

/** @throws FormatError if the context or the chunk has no sensible length */
export function planMemory(options: PlanOptions): MemoryPlan {
  const { config, scheme, contextLength, denseDtype = 'F16' } = options;
  const { chunkTokens = defaultChunkTokens, persistentDecode = false } = options;
  checkLength('context length', contextLength, config.maxPositionEmbeddings);
  checkLength('chunk', chunkTokens, config.maxPositionEmbeddings);
  const kvCache = chosenKvCache(options.kvCache ?? 'auto', contextLength, persistentDecode);
  const bindingBytes = options.bindingBytes ?? defaultBindingBytes;
  const quant = options.quant === undefined ? assumedQuant(options) : options.quant;
  const bits = (wanted: 8 | 16 | undefined) => (wanted === 8 ? wanted : undefined);
  const tables = {
    embeddingBits: bits(options.embeddingBits),
    headBits: config.tieWordEmbeddings ? undefined : bits(options.headBits),
  };
  const layout: ModelLayout = { config, scheme, quant, denseDtype, ...tables };
  const weights = weightBuffers(layout, bindingBytes);
  const buffers = [
    ...weights,
    ...cacheBuffers(config, contextLength, kvCache),
    ...scratchBuffers(layout, contextLength, chunkTokens, persistentDecode),
  ];
  const largest = buffers.reduce((most, buffer) => (buffer.largestBytes > most.largestBytes ? buffer : most));
  return {
    scheme,
    actBits: quant?.actBits ?? null,
    weightBits: quant?.weightBits ?? null,
    contextLength,
    chunkTokens,
    denseDtype,
    ...tables,
    kvCache,
    files: planFiles(layout),
    buffers,
    bytesByCategory: categoryBytes(buffers),
    gpuBytes: buffers.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
    largestBinding: { label: largest.label, bytes: largest.largestBytes },
    largestMatrix: largestMatrix(layout),
    limits: knownLimits.map((limits) => ({
      ...limits,
      fits: largest.largestBytes <= Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize),
    })),
    assumptions: assumptions(options, quant),
  };
}

function checkLength(what: string, tokens: number, most: number): void {
  if (!Number.isInteger(tokens) || tokens < 1 || tokens > most) {
    throw new FormatError(`${what}: expected 1 to the model's ${most} tokens, found ${tokens}`);
  }
}

/** K' of a site that the method has not seen yet. */
function assumedInputs(hiddenSize: number, scheme: SchemeName, reconstruct: ReconstructMode): number {
  const grows = schemeModes[scheme].norm === 'static' && (reconstruct === 'pad' || reconstruct === 'segment');
  if (!grows) return paddedInputs(hiddenSize);
  return paddedInputs(Math.ceil(hiddenSize * (1 + assumedGrowth)));
}

function assumedQuant(options: PlanOptions): QuantSpec | null {
  const { config, scheme, actBits = 4, weightBits = 4, weightGrid = null, reconstruct = 'pad' } = options;
  if (scheme === 'fp16') return null;
  const inputs = assumedInputs(config.hiddenSize, scheme, reconstruct);
  const offsets = schemeModes[scheme].norm === 'static' && reconstruct === 'segment';
  const layer = {
    attnInputs: inputs,
    mlpInputs: inputs,
    attnOffsets: offsets,
    mlpOffsets: offsets,
    attnAct: 1,
    oAct: 1,
    mlpAct: 1,
    downAct: 1,
  };
  const layers = Array.from({ length: config.numLayers }, () => layer);
  return { actBits, weightBits, weightGrid, reconstruct, alpha: null, hadamard: null, layers };
}

function assumptions({ config, quant: given }: PlanOptions, quant: QuantSpec | null): string[] {
  const texts = ['uniforms are left out: a few KiB'];
  if (given === undefined && quant) {
    const { attnInputs } = quant.layers[0]!;
    texts.push(`K' of q,k,v and gate,up is taken as ${attnInputs} (hidden size ${config.hiddenSize})`);
  }
  return texts;
}

function planFiles(layout: ModelLayout): MemoryPlan['files'] {
  const tensors = storedTensors(tensorSpecs(layout), defaultMaxTensorBytes);
  const shards = assignShards(tensors);
  const bytes = shards.map((shard) => {
    const entries = shard.map(({ name, tensor, rows }) => {
      return { name, dtype: tensor.dtype, shape: [rows, ...tensor.shape.slice(1)] };
    });
    return buildSafetensorsHeader(entries).length + shard.reduce((sum, tensor) => sum + tensor.bytes, 0);
  });
  return { shards: shards.length, tensors: tensors.length, downloadBytes: bytes.reduce((a, b) => a + b, 0) };
}

function categoryBytes(buffers: readonly PlanBuffer[]): Record<PlanCategory, number> {
  const bytes: Record<PlanCategory, number> = { weights: 0, embeddings: 0, 'kv-cache': 0, scratch: 0 };
  for (const { category, totalBytes } of buffers) bytes[category] += totalBytes;
  return bytes;
}

function largestMatrix(layout: ModelLayout): MemoryPlan['largestMatrix'] {
  return tensorSpecs(layout)
    .map((spec) => ({ label: spec.name, bytes: tensorBytes(spec) }))
    .reduce((most, matrix) => (matrix.bytes > most.bytes ? matrix : most));
}
