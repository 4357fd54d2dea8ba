/** Kernels of a prefill pass, where the best one depends on how many tokens it has: each is recorded for its range alone. */
import { type AttentionArgs, attention, attentionTiled, isTileable } from '../kernels/attention';
import { type LinearDenseArgs, linearDense } from '../kernels/linear-dense';
import { type LinearW4Args, linearW4 } from '../kernels/linear-w4';
import type { KernelContext, Op } from '../kernels/op';
import { type SiluMulArgs, siluMul } from '../kernels/silu-mul';

/** Tokens up to which small tiles win: tiles of 128 tokens would be half empty. */
const smallPassTokens = 64;
/** Tokens from which queries share their keys: below, a tile of 32 queries is half empty. */
const tiledAttentionTokens = 16;

type Ops = readonly Promise<Op>[];

/** Records `op` in passes of `least` to `most` tokens, and nothing in others. */
async function forTokens(op: Promise<Op>, least: number, most: number): Promise<Op> {
  const built = await op;
  const grid: Op['grid'] = (numTokens) =>
    numTokens >= least && numTokens <= most ? built.grid(numTokens) : [0, 0, 0];
  return { ...built, grid };
}

/** Small tiles for few tokens, large ones for many. */
function bySize(small: Ops, large: Ops): Ops {
  return [
    ...small.map((op) => forTokens(op, 1, smallPassTokens)),
    ...large.map((op) => forTokens(op, smallPassTokens + 1, Number.POSITIVE_INFINITY)),
  ];
}

/** The int4 product of a pass of many tokens; a token's bits do not depend on how many. @throws KernelShapeError */
export function matrixLinear(context: KernelContext, args: Omit<LinearW4Args, 'kind' | 'tuning'>): Ops {
  const { software } = context.gpu.caps;
  const small = linearW4(context, { ...args, kind: 'matrix' });
  return software ? [small] : bySize([small], [linearLarge(context, args)]);
}

/** The product of gate and up of all row blocks, and SwiGLU's gate: one dispatch a block where tiles are large. */
export function matrixGateUp(
  context: KernelContext,
  blocks: readonly Omit<LinearW4Args, 'kind' | 'tuning'>[],
  gate: SiluMulArgs,
): Ops {
  const small = [
    ...blocks.map((args) => linearW4(context, { ...args, kind: 'matrix' })),
    siluMul(context, gate),
  ];
  const pairs = blocks.every(({ rows, rowStart }) => rows % 2 === 0 && rowStart % 2 === 0);
  if (context.gpu.caps.software || !pairs) return small;
  return bySize(
    small,
    blocks.map((args) => linearLarge(context, { ...args, y: gate.y, silu: true })),
  );
}

function linearLarge(context: KernelContext, args: Omit<LinearW4Args, 'kind' | 'tuning'>): Promise<Op> {
  const tile = context.gpu.caps.subgroupMatrixI8 ? 'subgroupMatrix' : 'tile128';
  return linearW4(context, { ...args, kind: 'matrix', tuning: { tile } });
}

/** The float product of a pass of many tokens; a token's bits do not depend on how many. @throws KernelShapeError */
export function matrixDense(context: KernelContext, args: Omit<LinearDenseArgs, 'kind' | 'tile'>): Ops {
  const small = linearDense(context, { ...args, kind: 'matrix' });
  if (context.gpu.caps.software) return [small];
  return bySize([small], [linearDense(context, { ...args, kind: 'matrix', tile: 128 })]);
}

/** Attention of a pass of many tokens, the same bits as decode's. @throws KernelShapeError */
export function matrixAttention(context: KernelContext, args: AttentionArgs): Ops {
  const single = attention(context, args);
  if (context.gpu.caps.software || !isTileable(args)) return [single];
  return [
    forTokens(single, 1, tiledAttentionTokens - 1),
    forTokens(attentionTiled(context, args), tiledAttentionTokens, Number.POSITIVE_INFINITY),
  ];
}
