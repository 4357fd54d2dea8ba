/** The buffers one pass works in, sized for the largest chunk of tokens, and the KV cache. */
import { type KvCacheKind, kvCacheBytes, kvScalesBytes } from '../format/kv-cache';
import { fewTokens } from '../format/plan-buffers';
import { qkvRows } from '../format/tensors';
import type { BufferArena, GpuMemory } from '../gpu/arena';
import { storageUsage } from '../gpu/arena';
import { attentionPartialsBytes } from '../kernels/attention';
import type { KvCacheArgs } from '../kernels/kv-cache';
import { ropeTable } from '../kernels/rope-table';
import { fusesGate } from './matrix-ops';
import type { ModelWeights } from './weights';

/** Keys and values of all positions of one layer, [Hkv, context, row] each. */
export interface KvCacheLayer {
  readonly keys: GpuMemory;
  readonly values: GpuMemory;
  /** Steps and minima of rows with codes; null for halves. */
  readonly scales: GPUBuffer | null; // [2, Hkv, context] u32
}

export interface Scratch {
  /** T tokens at most in one pass. */
  readonly chunkTokens: number;
  readonly contextLength: number;
  /** Step uniform, advanced on the GPU by the sampler: num_tokens, position, generated. */
  readonly step: GPUBuffer;
  readonly ids: GPUBuffer; // [T] u32
  readonly x: GPUBuffer; // [T, D] f32, the residual stream
  // Two buffers hold what lives in turn: `normed` and `attended` are one, `qkv` and `activated` another.
  readonly normed: GPUBuffer; // [T, D] f32, plain norm output
  readonly attended: GPUBuffer; // [T, H·Dh] f32
  readonly qkv: GPUBuffer; // [T, (H + 2·Hkv)·Dh] f32
  readonly activated: GPUBuffer; // [T, F] f32
  readonly gateUp: GPUBuffer; // [T, 2F] f32; at most fewTokens rows where prefill's product applies SwiGLU's gate
  readonly q: GPUBuffer; // [T, max K'/4] u32, quantized activations
  readonly qmeta: GPUBuffer; // [T] scale and sum
  readonly partials: GPUBuffer; // attention pieces of one token
  readonly rope: GPUBuffer; // [context, Dh/2, 2] f32
  readonly lastNormed: GPUBuffer; // [1, D] f32
  readonly logits: GPUBuffer; // [V] f32
  readonly kvCacheKind: KvCacheKind;
  readonly kvCache: readonly KvCacheLayer[];
}

/** Largest K' among a model's quantized linears; 0 when it has none. */
function largestQuantizedInput(weights: ModelWeights): number {
  const linears = weights.layers.flatMap((layer) => [layer.qkv, layer.o, layer.gateUp, layer.down]);
  return Math.max(0, ...linears.map((linear) => (linear.kind === 'dense' ? 0 : linear.inputs)));
}

/** Whether a pass of many tokens leaves gate and up in memory: the others apply SwiGLU's gate within the product. */
function storesGateUp({ layout, layers }: ModelWeights, software: boolean): boolean {
  if (layout.quant?.hadamard) return true;
  return layers.some(({ gateUp }) => gateUp.kind !== 'int4' || !fusesGate(software, gateUp.blocks));
}

export interface ScratchOptions {
  /** As in the GPU's capabilities. */
  readonly software?: boolean;
  /** How keys and values are kept; default `f16`. */
  readonly kvCache?: KvCacheKind;
  /** Keys of all layers in one buffer, values in another, as far as the device's limits allow: for the whole-token kernel. */
  readonly packed?: boolean;
}

/** Allocates everything a pass needs besides the weights. */
export function createScratch(
  arena: BufferArena,
  weights: ModelWeights,
  contextLength: number,
  chunkTokens: number,
  { software = false, kvCache = 'f16', packed = false }: ScratchOptions = {},
): Scratch {
  const { config } = weights.layout;
  const { hiddenSize: D, intermediateSize: F, numHeads: H, headDim } = config;
  const T = chunkTokens;
  const floats = (label: string, count: number) => arena.create(label, 4 * count, { category: 'scratch' });
  const cacheBytes = kvCacheBytes(config, contextLength, kvCache);
  const scalesBytes = kvScalesBytes(config, contextLength, kvCache);
  const cache = (label: string, bytes: number) => arena.create(label, bytes, { category: 'kv-cache' });
  const caches = (name: string): readonly GpuMemory[] => {
    const layers = Array.from({ length: config.numLayers }, (_, layer) => `layers.${layer}.${name}`);
    if (!packed) return layers.map((label) => cache(label, cacheBytes));
    const sizes = layers.map(() => cacheBytes);
    return arena.createSlices(name, sizes, { category: 'kv-cache' });
  };
  const keys = caches('keys');
  const values = caches('values');
  const attended = floats('attended', T * Math.max(D, H * headDim));
  const qkv = floats('qkv', T * Math.max(qkvRows(config), F));
  return {
    chunkTokens,
    contextLength,
    step: arena.create('step', 16, { category: 'uniforms', usage: storageUsage | 0x40 }), // and UNIFORM
    ids: floats('ids', T),
    x: floats('x', T * D),
    normed: attended,
    attended,
    qkv,
    activated: qkv,
    gateUp: floats('gate_up', (storesGateUp(weights, software) ? T : Math.min(T, fewTokens)) * 2 * F),
    q: floats('q', (T * largestQuantizedInput(weights)) / 4),
    qmeta: floats('qmeta', 2 * T),
    partials: floats('partials', attentionPartialsBytes({ numHeads: H, headDim, contextLength }, 1) / 4),
    rope: arena.upload('rope', ropeTable(config, contextLength), { category: 'scratch' }),
    lastNormed: floats('last_normed', D),
    logits: floats('logits', config.vocabSize),
    kvCacheKind: kvCache,
    kvCache: Array.from({ length: config.numLayers }, (_, layer) => ({
      keys: keys[layer]!,
      values: values[layer]!,
      scales: scalesBytes > 0 ? cache(`layers.${layer}.kv_scales`, scalesBytes) : null,
    })),
  };
}

/** The cache of one layer as the kernels take it. */
export function kvCacheArgs({ kvCacheKind, kvCache }: Scratch, layer: number): KvCacheArgs {
  const { keys, values, scales } = kvCache[layer]!;
  return { kvCache: kvCacheKind, keyCache: keys, valueCache: values, kvScales: scales };
}
