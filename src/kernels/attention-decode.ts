import source from '../../shaders/attention_decode.wgsl?raw';
import rope from '../../shaders/rope.wgsl?raw';
import { type AttentionSplitArgs, loadsAhead, pieceCount, pieceKeys, withPiece } from './attention';
import { kvCacheSources, kvScaleBindings } from './kv-cache';
import { type KernelContext, makeOp, type Op, requireShape } from './op';

export interface AttentionDecodeArgs extends Omit<AttentionSplitArgs, 'out'> {
  readonly table: GPUBuffer; // [contextLength, Dh/2, 2] f32, see ropeTable
}

/** Head dimensions that {@link attentionDecode} takes. */
export function fitsAttentionDecode({ headDim }: Pick<AttentionDecodeArgs, 'headDim'>): boolean {
  return headDim % 8 === 0 && headDim <= 256;
}

/**
 * Rotation, KV append and attention of one token in one dispatch: what `ropeAppend` and the first half of
 * `attentionSplit` do, with the same bits in caches and partials. Leaves `qkv` as it is.
 * @throws KernelShapeError on a headDim that is no multiple of 8 or above 256, or heads that do not divide
 */
export function attentionDecode(context: KernelContext, args: AttentionDecodeArgs): Promise<Op> {
  const { numHeads, numKvHeads, headDim, contextLength } = args;
  const label = 'attention_decode';
  requireShape(fitsAttentionDecode(args), label, `headDim a multiple of 8 of at most 256, got ${headDim}`);
  const divides = numHeads % numKvHeads === 0;
  requireShape(divides, label, `numKvHeads dividing ${numHeads} heads, got ${numKvHeads}`);
  const pieces = pieceCount(args);
  const params = context.arena.uniform(`${label}.params`, {
    H: numHeads,
    Hkv: numKvHeads,
    Dh: headDim,
    context: contextLength,
    pieces,
    scale: { f32: 1 / Math.sqrt(headDim) },
  });
  const { step, qkv, table, keyCache, valueCache, partials, kvCache = 'f16' } = args;
  const scales = kvScaleBindings(args, label);
  return makeOp(context, {
    label,
    ...withPiece(context, [rope, ...kvCacheSources(kvCache, 'own')], source),
    constants: {
      LANES: pieceKeys(contextLength, headDim),
      SHARED: Number(numHeads > numKvHeads),
      ...loadsAhead(context, headDim, kvCache),
    },
    bindings: [params, step, qkv, table, keyCache, valueCache, partials, ...scales],
    grid: () => [numHeads, 1, pieces],
  });
}
