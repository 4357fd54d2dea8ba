import joinSource from '../../shaders/attention_join.wgsl?raw';
import reduceSource from '../../shaders/decode_reduce.wgsl?raw';
import attentionSource from '../../shaders/persistent_attention.wgsl?raw';
import ownSource from '../../shaders/persistent_attention_own.wgsl?raw';
import scoresSource from '../../shaders/persistent_attention_scores.wgsl?raw';
import valuesSource from '../../shaders/persistent_attention_values.wgsl?raw';
import crossingSource from '../../shaders/persistent_crossing.wgsl?raw';
import productSource from '../../shaders/persistent_product.wgsl?raw';
import quantizePart from '../../shaders/persistent_quantize.wgsl?raw';
import sendSource from '../../shaders/persistent_send.wgsl?raw';
import tokenSource from '../../shaders/persistent_token.wgsl?raw';
import weightsSource from '../../shaders/persistent_weights.wgsl?raw';
import quantizeSource from '../../shaders/quantize.wgsl?raw';
import ropeSource from '../../shaders/rope.wgsl?raw';
import siluSource from '../../shaders/silu.wgsl?raw';
import dotSource from '../../shaders/w4_dot.wgsl?raw';
import type { LlamaConfig } from '../format/config';
import { type ExchangeShape, exchangeLayout, exchangeWords, halvesAt } from '../format/exchange-buffer';
import { type ActBits, qMax } from '../format/scheme';
import type { Gpu } from '../gpu/gpu';
import { pieceCount, pieceKeys } from './attention';
import { type KernelContext, makeOp, type Op, requireShape } from './op';
import {
  capacityPieces,
  mostSites,
  type ProductSite,
  siteWords,
  tailRounds,
  wordsPerSite,
} from './persistent-sites';

/** One product of one layer, with what makes integers of its input. */
export interface PersistentSite extends ProductSite {
  /**
   * A norm with [K'] u32 gather and [K'] f32 multipliers in `tables`, or a quantizer with a clip ratio (dynamic) or a step
   * (static).
   */
  readonly input: { readonly gatherBytes: number; readonly multBytes: number } | { readonly act: number };
}

/** Choices that change speed, and one that bits depend on. */
export interface PersistentTuning {
  /** Workgroups: as many as the GPU keeps resident at the same time, or fewer. */
  readonly groups?: number; // at most D / 2
  /** Invocations per workgroup: a multiple of 256 that the device allows. */
  readonly threads?: number;
  /** 16-byte weight loads in flight per invocation and row, 1 to 6. */
  readonly pieces?: number;
  /**
   * Whether the device's compiler rounds a product and a sum once in the ordinary kernels. Changes bits: it has to be what the
   * compiler does. Default: on hardware.
   */
  readonly fuses?: boolean;
  /** Looks at a missing float before a reader gives up; a multiple of 64. */
  readonly spinLimit?: number;
}

export interface PersistentTokenArgs {
  readonly config: LlamaConfig;
  readonly actBits: ActBits;
  /** How o and down quantize their input. */
  readonly projection: 'dynamic' | 'static';
  /** B of the online rotation in front of down, or null. */
  readonly downBlock: number | null;
  readonly contextLength: number;
  /** qkv, o, gate and up, down of each layer. */
  readonly sites: readonly PersistentSite[];
  /** One or two. */
  readonly weights: readonly GPUBuffer[];
  readonly tables: GPUBuffer;
  readonly step: GPUBuffer;
  readonly angles: GPUBuffer; // [context, Dh/2, 2] f32, see ropeTable
  readonly keys: GPUBuffer; // [layers, Hkv, context, Dh/2] u32, two halves each
  readonly values: GPUBuffer;
  /** From one layer's keys to the next one's, a multiple of 16; the same for values. */
  readonly layerBytes: number;
  readonly x: GPUBuffer; // [D] f32, in and out
  /** See {@link freshCrossing}. */
  readonly crossing: GPUBuffer;
  readonly tuning?: PersistentTuning;
}

/** Word of `crossing` that is not 0 once a reader has given up. */
export const stoppedWord = 0;
/** What a float that is not there yet looks like. */
const missing = 0x7fc0dead;

/** What the size of `crossing` depends on. */
export type CrossingShape = ExchangeShape;

/** What {@link persistentToken} wants in `crossing` before its first dispatch, and to start anew once a reader gave up. */
export function freshCrossing(shape: CrossingShape): Uint32Array<ArrayBuffer> {
  return new Uint32Array(exchangeWords(shape)).fill(missing, halvesAt);
}

function defaultThreads(gpu: Gpu): number {
  return Math.min(512, Math.floor(gpu.device.limits.maxComputeInvocationsPerWorkgroup / 256) * 256);
}

/** Bytes of workgroup memory of one workgroup. */
function workgroupBytes(shape: CrossingShape, inputs: number, threads: number): number {
  const { config, contextLength, downBlock } = shape;
  const lanes = pieceKeys(contextLength, config.headDim);
  const slots = threads / lanes;
  const staged = 16 * stagedWords(config, threads, lanes, downBlock ?? 0);
  const ownRows = 2 * slots * 32 * 16;
  const attention = ownRows + slots * 5 * lanes + 8 * threads;
  return 32 * capacityPieces(inputs) + staged + attention + 4 * 256 + threads + 16;
}

/** Whether {@link persistentToken} can run on this device with tokens of K' up to `inputs`. */
export function fitsPersistentToken(
  gpu: Gpu,
  shape: CrossingShape,
  inputs: number,
  { threads = defaultThreads(gpu) }: PersistentTuning = {},
): boolean {
  const { maxComputeWorkgroupStorageSize, maxStorageBuffersPerShaderStage } = gpu.device.limits;
  const fits = workgroupBytes(shape, inputs, threads) <= maxComputeWorkgroupStorageSize;
  return gpu.caps.subgroups && maxStorageBuffersPerShaderStage >= 8 && fits;
}

/** Words of four floats of the array that norm, attention and rotation use in turn: 8 more than a multiple of 32. */
function stagedWords({ hiddenSize }: LlamaConfig, threads: number, lanes: number, block: number): number {
  const attention = (threads / lanes) * 8 * (lanes + 4);
  return Math.ceil(Math.max(hiddenSize, attention, block) / 128) * 32 + 8;
}

/**
 * All layers of one decoded token in one dispatch: `x` and the caches as `decodeLinear` and `attentionDecode` leave them, bit
 * for bit. Workgroups wait for each other's floats: when one waits too long, `x` holds NaN from then on, and word
 * {@link stoppedWord} of `crossing` is not 0.
 * @throws KernelShapeError
 */
export async function persistentToken(context: KernelContext, args: PersistentTokenArgs): Promise<Op> {
  const { config, sites, contextLength, tuning = {}, downBlock } = args;
  const { hiddenSize: D, intermediateSize: F, numHeads: H, numKvHeads: Hkv, headDim: Dh } = config;
  const threads = tuning.threads ?? defaultThreads(context.gpu);
  const groups = Math.min(tuning.groups ?? 132, D / 2);
  const lanes = pieceKeys(contextLength, Dh);
  requireToken(context, args, threads);
  const params = context.arena.uniform('persistent_token.params', {
    ...{ D, F, H, Hkv, Dh, context: contextLength, layers: config.numLayers },
    layerChunks: args.layerBytes / 16,
    ...{ attentionScale: { f32: 1 / Math.sqrt(Dh) }, eps: { f32: config.rmsNormEps } },
    qMax: { f32: qMax(args.actBits) },
    ...{ block: downBlock ?? 1, blockScale: { f32: 1 / Math.sqrt(downBlock ?? 1) } },
    ...{ pieces: pieceCount({ contextLength, headDim: Dh }), spinLimit: tuning.spinLimit ?? 2 ** 18 },
    ...exchangeLayout(args),
  });
  const table = context.arena.upload('persistent_token.sites', siteTable(args), {
    category: 'uniforms',
    usage: 0x40 | 0x8, // UNIFORM | COPY_DST
  });
  const inputs = sites.map((site) => site.inputs);
  const shared = [quantizeSource, dotSource, siluSource, joinSource, ropeSource, reduceSource];
  const linears = [weightsSource, crossingSource, sendSource, productSource, quantizePart];
  const attention = [ownSource, scoresSource, valuesSource, attentionSource];
  return makeOp(context, {
    label: 'persistent_token',
    source: [...shared, ...linears, ...attention, tokenSource].join('\n'),
    enables: ['subgroups'],
    constants: {
      ...{ WORKGROUP: threads, PIECES: tuning.pieces ?? 4 },
      CAPACITY: capacityPieces(Math.max(...inputs)),
      FUSES: Number(tuning.fuses ?? !context.gpu.caps.software),
      TAIL: tailRounds(context.gpu, inputs),
      ...{ ATTENTION_BIAS: Number(config.attentionBias), MLP_BIAS: Number(config.mlpBias) },
      ...{ DYNAMIC: Number(args.projection === 'dynamic'), HADAMARD: Number(downBlock !== null) },
      ...{ STAGED: stagedWords(config, threads, lanes, downBlock ?? 0), LANES: lanes },
      ...{ CHUNKS_AHEAD: Math.min(4, Math.max(1, Dh >> 5)), KEYS_AHEAD: 8 },
    },
    bindings: [
      ...[params, table, args.step, args.weights[0]!, args.weights[1] ?? args.weights[0]!, args.tables],
      ...[args.angles, args.keys, args.values, args.x, args.crossing],
    ],
    grid: () => [groups, 1, 1],
  });
}

function siteTable({ sites, projection, actBits }: PersistentTokenArgs): Uint32Array<ArrayBuffer> {
  const words = siteWords(sites);
  const floats = new Float32Array(words.buffer);
  sites.forEach(({ input }, i) => {
    const at = wordsPerSite * (i + 1) - 2;
    if ('act' in input) floats[at + 1] = projection === 'dynamic' ? input.act / qMax(actBits) : 1 / input.act;
    else words.set([input.gatherBytes / 16, input.multBytes / 16], at);
  });
  return words;
}

function requireToken(context: KernelContext, args: PersistentTokenArgs, threads: number): void {
  const { config, sites, weights, downBlock, tuning = {}, contextLength } = args;
  const { hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, headDim } = config;
  const label = 'persistent_token';
  const { maxComputeInvocationsPerWorkgroup: most } = context.gpu.device.limits;
  requireShape(context.gpu.caps.subgroups, label, 'subgroups');
  requireShape(sites.length <= mostSites, label, `at most ${mostSites} products, not ${sites.length}`);
  requireShape(sites.length === 4 * numLayers, label, `4 sites a layer, not ${sites.length} in all`);
  requireShape(weights.length === 1 || weights.length === 2, label, `1 or 2 buffers, not ${weights.length}`);
  requireShape(
    headDim % 8 === 0 && headDim <= 256,
    label,
    `headDim a multiple of 8 of at most 256, got ${headDim}`,
  );
  requireShape(numHeads % numKvHeads === 0, label, `numKvHeads dividing ${numHeads}, got ${numKvHeads}`);
  const fours = hiddenSize % 4 === 0 && intermediateSize % 4 === 0;
  requireShape(fours, label, `sizes that are multiples of 4, not ${hiddenSize} and ${intermediateSize}`);
  const wholeSlots = threads % Math.max(256, pieceKeys(contextLength, headDim)) === 0;
  requireShape(wholeSlots && threads <= most, label, `threads a multiple of 256, not ${threads}`);
  requireShape(downBlock === null || intermediateSize % downBlock === 0, label, 'whole Hadamard blocks');
  const pieces = tuning.pieces ?? 4;
  requireShape(pieces >= 1 && pieces <= 6, label, `pieces 1 to 6, not ${pieces}`);
}
