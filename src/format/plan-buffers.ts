/** The buffers that a model takes on the GPU, by kind: weights, KV cache, and what a pass works in. */
import type { LlamaConfig } from './config';
import { exchangeWords } from './exchange-buffer';
import { type KvCacheKind, kvCacheBytes, kvScalesBytes, pieceCount } from './kv-cache';
import { dtypeBytes, linearInputs, type ModelLayout, qkvRows, type TensorSpec, tensorSpecs } from './tensors';

export type PlanCategory = 'weights' | 'embeddings' | 'kv-cache' | 'scratch';

/** Buffers of one kind, equal or nearly equal in every layer. */
export interface PlanBuffer {
  /** Layers are written as `*`. */
  readonly label: string;
  readonly category: PlanCategory;
  /** Number of buffers, row blocks included. */
  readonly count: number;
  readonly largestBytes: number;
  readonly totalBytes: number;
}

/** Rows of float matrices are padded to 16 bytes on the GPU. */
function gpuRowBytes({ dtype, shape }: TensorSpec): number {
  const inputs = shape[1] ?? 1;
  const isDense = shape.length === 2 && dtype !== 'U32';
  return isDense ? Math.ceil((inputs * dtypeBytes[dtype]) / 16) * 16 : inputs * dtypeBytes[dtype];
}

/** Buffer sizes are multiples of 16. */
function bufferBytes(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/** Matrices above `bindingBytes` in row blocks. */
export function weightBuffers(layout: ModelLayout, bindingBytes: number): PlanBuffer[] {
  const groups = new Map<string, PlanBuffer>();
  for (const spec of tensorSpecs(layout)) {
    if (spec.name.endsWith('_norm.offset')) continue; // shares a word with its gather index
    const label = spec.name.replace(/^layers\.\d+\./, 'layers.*.');
    const rowBytes = gpuRowBytes(spec);
    const rows = spec.shape[0]!;
    const rowsPerBlock = Math.max(1, Math.floor(bindingBytes / rowBytes));
    const blocks = Math.ceil(rows / rowsPerBlock);
    const full = bufferBytes(Math.min(rows, rowsPerBlock) * rowBytes);
    const last = bufferBytes((rows - (blocks - 1) * rowsPerBlock) * rowBytes);
    const earlier = groups.get(label);
    groups.set(label, {
      label,
      category: /^(embed|head)\./.test(label) ? 'embeddings' : 'weights',
      count: (earlier?.count ?? 0) + blocks,
      largestBytes: Math.max(earlier?.largestBytes ?? 0, full),
      totalBytes: (earlier?.totalBytes ?? 0) + (blocks - 1) * full + last,
    });
  }
  return [...groups.values()];
}

/** Keys and values of each layer, and steps and minima of both where they are codes. */
export function cacheBuffers(config: LlamaConfig, contextLength: number, kind: KvCacheKind): PlanBuffer[] {
  const bytes = { keys: kvCacheBytes(config, contextLength, kind), values: 0, kv_scales: 0 };
  bytes.values = bytes.keys;
  bytes.kv_scales = kvScalesBytes(config, contextLength, kind);
  return Object.entries(bytes)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => ({
      label: `layers.*.${name}`,
      category: 'kv-cache',
      count: config.numLayers,
      largestBytes: bufferBytes(count),
      totalBytes: bufferBytes(count) * config.numLayers,
    }));
}

/** Tokens up to which a prefill pass may run with vector products, which store gate and up: docs/LOG.md. */
export const fewTokens = 36;

/** What one pass over a chunk of T tokens works in; and the exchange of the whole-token kernel where it is asked for. */
export function scratchBuffers(
  layout: ModelLayout,
  contextLength: number,
  T: number,
  persistentDecode: boolean,
): PlanBuffer[] {
  const { config } = layout;
  const { hiddenSize: D, intermediateSize: F, numHeads, headDim, vocabSize } = config;
  const fusesGate = layout.quant && !layout.quant.hadamard && !layout.quant.weightGrid;
  const words: Record<string, number> = {
    ids: T,
    x: T * D,
    attended: T * Math.max(D, numHeads * headDim), // and the plain norm's output
    qkv: T * Math.max(qkvRows(config), F), // and the FFN's activations
    gate_up: (fusesGate ? Math.min(T, fewTokens) : T) * 2 * F,
    q: (T * largestInputs(layout)) / 4, // 8-bit lanes
    qmeta: 2 * T,
    partials: numHeads * pieceCount({ contextLength, headDim }) * (4 * Math.ceil(headDim / 4) + 4), // one token's
    rope: contextLength * headDim,
    last_normed: D,
    logits: vocabSize,
  };
  if (persistentDecode) {
    const downBlock = layout.quant?.hadamard?.downBlock ?? null;
    words.crossing = exchangeWords({ config, contextLength, downBlock });
  }
  return Object.entries(words).map(([label, count]) => {
    const bytes = bufferBytes(4 * count);
    return { label, category: 'scratch', count: 1, largestBytes: bytes, totalBytes: bytes };
  });
}

/** Largest K' among the quantized linears; 0 without them. */
function largestInputs(layout: ModelLayout): number {
  const bits = layout.quant?.weightBits ?? 4;
  return Math.max(0, ...tensorSpecs(layout).map((spec) => linearInputs(spec, bits) ?? 0));
}
