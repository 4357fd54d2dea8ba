/** What a prefill pass does its own way: products of many tokens, with SwiGLU's gate in them, and tiled attention. */
import { type AttentionArgs, attention, attentionTiled, isTileable } from '../kernels/attention';
import { type LinearW4Args, linearW4 } from '../kernels/linear-w4';
import { hasLargeTile } from '../kernels/matmul-w4';
import type { KernelContext, Op } from '../kernels/op';
import { type SiluMulArgs, siluMul } from '../kernels/silu-mul';

/** Tokens from which queries share their keys: below, a tile of 32 queries is half empty. */
const tiledAttentionTokens = 16;
/** Tokens from which tiles of 128 of them leave no processor idle: measured on an H200 at 7B shape, docs/LOG.md. */
const largeTileTokens = 1024;

type Ops = readonly Promise<Op>[];
type Block = Omit<LinearW4Args, 'kind' | 'tuning'>;

/** Whether the int4 product of gate and up applies SwiGLU's gate itself, so that `gate_up` is never stored. */
export function fusesGate(software: boolean, blocks: readonly Pick<Block, 'rows' | 'rowStart'>[]): boolean {
  return !software && blocks.every(({ rows, rowStart }) => rows % 2 === 0 && rowStart % 2 === 0);
}

/** One int4 product of a pass, in the tiles that suit its number of tokens. @throws KernelShapeError */
export function matrixLinear(context: KernelContext, args: Block): Ops {
  const small = linearW4(context, { ...args, kind: 'matrix' });
  if (!hasLargeTile(context.gpu)) return [small];
  const large = linearW4(context, { ...args, kind: 'matrix', tuning: { largeTile: true } });
  return [
    forTokens(small, 1, largeTileTokens - 1),
    forTokens(large, largeTileTokens, Number.POSITIVE_INFINITY),
  ];
}

/** The product of gate and up of all row blocks, and SwiGLU's gate, into `gate.y`. @throws KernelShapeError */
export function matrixGateUp(context: KernelContext, blocks: readonly Block[], gate: SiluMulArgs): Ops {
  if (!fusesGate(context.gpu.caps.software, blocks)) {
    return [...blocks.flatMap((args) => matrixLinear(context, args)), siluMul(context, gate)];
  }
  return blocks.flatMap((args) => matrixLinear(context, { ...args, y: gate.y, silu: true }));
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

/** Records `op` in passes of `least` to `most` tokens, and nothing in others. */
async function forTokens(op: Promise<Op>, least: number, most: number): Promise<Op> {
  const built = await op;
  const grid: Op['grid'] = (numTokens) =>
    numTokens >= least && numTokens <= most ? built.grid(numTokens) : [0, 0, 0];
  return { ...built, grid };
}
