import source from '../../shaders/attention.wgsl?raw';
import combineSource from '../../shaders/attention_combine.wgsl?raw';
import join from '../../shaders/attention_join.wgsl?raw';
import joinWord from '../../shaders/attention_join_word.wgsl?raw';
import maximum from '../../shaders/attention_maximum.wgsl?raw';
import maximumInSubgroups from '../../shaders/attention_maximum_sg.wgsl?raw';
import piece from '../../shaders/attention_piece.wgsl?raw';
import tiledSource from '../../shaders/attention_tiled.wgsl?raw';
import tiledStage from '../../shaders/attention_tiled_stage.wgsl?raw';
import { type KvCacheKind, kvRowBytes, pieceCount, pieceKeys } from '../format/kv-cache';

export { pieceCount, pieceKeys } from '../format/kv-cache';

import { type KvCacheArgs, kvCacheSources, kvScaleBindings } from './kv-cache';
import { type KernelContext, makeOp, type Op, type OpSpec, requireShape } from './op';

export interface AttentionArgs extends KvCacheArgs {
  readonly numHeads: number; // H
  readonly numKvHeads: number; // Hkv, divides H
  readonly headDim: number; // Dh, even, at most 256
  readonly contextLength: number;
  /** Step uniform: `numTokens`, `position`. */
  readonly step: GPUBuffer;
  readonly qkv: GPUBuffer; // [T, (H + 2·Hkv)·Dh] f32, q rotated
  readonly out: GPUBuffer; // [T, H·Dh] f32
}

export interface AttentionSplitArgs extends AttentionArgs {
  /** Scratch of at least {@link attentionPartialsBytes} for the pass's T. */
  readonly partials: GPUBuffer; // [T, H, pieces, partialElems(Dh)] f32
}

/** Loads in flight of a lane of an attention workgroup: hides memory's latency on a GPU, idles on a software adapter. */
export function loadsAhead(
  context: KernelContext,
  headDim: number,
  kind: KvCacheKind = 'f16',
): Record<string, number> {
  if (context.gpu.caps.software) return { LOADS_AHEAD: 1, SCORE_KEYS: 1, KEYS_AHEAD: 1 };
  const rowLoads = kvRowBytes(headDim, kind) / 16;
  const ahead = [4, 2, 1].find((count) => 4 * count <= rowLoads) ?? 1; // four lanes share a row
  return { LOADS_AHEAD: ahead, SCORE_KEYS: Math.min(4, 8 / ahead), KEYS_AHEAD: 8 };
}

/** The WGSL of a kernel that attends pieces, behind the cache's layout, and what it enables. */
export function withPiece(
  { gpu }: KernelContext,
  before: readonly string[],
  kernel: string,
): Pick<OpSpec, 'source' | 'enables'> {
  const { subgroups, software } = gpu.caps;
  const inSubgroups = subgroups && !software;
  const parts = [...before, join, inSubgroups ? maximumInSubgroups : maximum, piece, kernel];
  return { source: parts.join('\n'), enables: inSubgroups ? ['subgroups'] : [] };
}

/** Floats of one piece's partial result: o[Dh], maximum and sum, from one 16-byte boundary to the next. */
export function partialElems(headDim: number): number {
  return Math.ceil(headDim / 4) * 4 + 4;
}

/** Bytes of the partials of {@link attentionSplit} for passes of up to `maxTokens` tokens (1 for decode). */
export function attentionPartialsBytes(
  shape: Pick<AttentionArgs, 'numHeads' | 'headDim' | 'contextLength'>,
  maxTokens: number,
): number {
  return 4 * maxTokens * shape.numHeads * pieceCount(shape) * partialElems(shape.headDim);
}

/**
 * Causal attention of every token over the cache, one workgroup per token and head: for prefill, and for decode in a
 * short context. The cache must already hold this pass's keys and values.
 * @throws KernelShapeError on a headDim that is odd or above 256, or heads that do not divide
 */
export function attention(context: KernelContext, args: AttentionArgs): Promise<Op> {
  return attentionOp(context, args, null);
}

/**
 * The same attention, bit for bit, with the keys split over workgroups (decode in a long context): `[partial, combine]`,
 * to run in this order.
 * @throws KernelShapeError as {@link attention}
 */
export function attentionSplit(
  context: KernelContext,
  args: AttentionSplitArgs,
): Promise<readonly [partial: Op, combine: Op]> {
  return Promise.all([attentionOp(context, args, args.partials), attentionCombine(context, args)]);
}

/** The joining of pieces that `attentionSplit` left. */
function attentionCombine(
  context: KernelContext,
  args: Pick<AttentionSplitArgs, 'numHeads' | 'headDim' | 'contextLength' | 'step' | 'partials' | 'out'>,
): Promise<Op> {
  const { numHeads, headDim, contextLength, step, partials, out } = args;
  const shape = { H: numHeads, Dh: headDim, pieces: pieceCount(args) };
  return makeOp(context, {
    label: 'attention_combine',
    source: [join, joinWord, combineSource].join('\n'),
    constants: { PIECE_KEYS: pieceKeys(contextLength, headDim), WORKGROUP: combineWorkgroup },
    bindings: [context.arena.uniform('attention_combine.params', shape), step, partials, out],
    grid: (numTokens) => [Math.ceil((numHeads * Math.ceil(headDim / 4)) / combineWorkgroup), numTokens, 1],
  });
}

/** Invocations of a workgroup of `attention_combine`. */
const combineWorkgroup = 64;

/** Queries of a workgroup of {@link attentionTiled}. */
const tiledQueries = 32;

/** Whether {@link attentionTiled} takes this shape. */
export function isTileable({
  headDim,
  contextLength,
}: Pick<AttentionArgs, 'headDim' | 'contextLength'>): boolean {
  return headDim === 128 && pieceKeys(contextLength, headDim) === 256;
}

/**
 * The same attention, bit for bit, for many tokens: keys and values are read once for 32 queries. headDim 128 alone.
 * @throws KernelShapeError on another shape than {@link isTileable} allows, or heads that do not divide
 */
export function attentionTiled(context: KernelContext, args: AttentionArgs): Promise<Op> {
  const { numHeads, numKvHeads, headDim, contextLength } = args;
  requireHeads(args, 'attention_tiled');
  requireShape(isTileable(args), 'attention_tiled', `headDim 128, got ${headDim}`);
  const scales = kvScaleBindings(args, 'attention_tiled');
  const params = context.arena.uniform('attention_tiled.params', {
    H: numHeads,
    Hkv: numKvHeads,
    context: contextLength,
    scale: { f32: 1 / Math.sqrt(headDim) },
  });
  return makeOp(context, {
    label: 'attention_tiled',
    source: [...kvCacheSources(args.kvCache ?? 'f16', 'read'), join, tiledStage, tiledSource].join('\n'),
    bindings: [params, args.step, args.qkv, args.keyCache, args.valueCache, args.out, ...scales],
    grid: (numTokens) => [numHeads, Math.ceil(numTokens / tiledQueries), 1],
  });
}

function requireHeads({ numHeads, numKvHeads }: AttentionArgs, label: string): void {
  const divides = numHeads % numKvHeads === 0;
  requireShape(divides, label, `numKvHeads dividing ${numHeads} heads, got ${numKvHeads}`);
}

function attentionOp(context: KernelContext, args: AttentionArgs, partials: GPUBuffer | null): Promise<Op> {
  const { numHeads, numKvHeads, headDim, contextLength } = args;
  const evenAndSmall = headDim % 2 === 0 && headDim <= 256;
  requireShape(evenAndSmall, 'attention', `an even headDim of at most 256, got ${headDim}`);
  requireHeads(args, 'attention');
  const pieces = pieceCount(args);
  const kind = args.kvCache ?? 'f16';
  const scales = kvScaleBindings(args, 'attention');
  const params = context.arena.uniform('attention.params', {
    H: numHeads,
    Hkv: numKvHeads,
    Dh: headDim,
    context: contextLength,
    pieces,
    scale: { f32: 1 / Math.sqrt(headDim) },
  });
  return makeOp(context, {
    label: partials ? 'attention_partial' : 'attention',
    ...withPiece(context, kvCacheSources(kind, 'read'), source),
    constants: {
      LANES: pieceKeys(contextLength, headDim),
      ...loadsAhead(context, headDim, kind),
      SPLIT: partials ? 1 : 0,
    },
    bindings: [params, args.step, args.qkv, args.keyCache, args.valueCache, partials ?? args.out, ...scales],
    grid: (numTokens) => [numHeads, numTokens, partials ? pieces : 1],
  });
}
