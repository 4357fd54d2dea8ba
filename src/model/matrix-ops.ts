/** What a prefill pass does its own way: products of many tokens, with SwiGLU's gate in them, and tiled attention. */
import { type AttentionArgs, attention, attentionTiled, isTileable } from '../kernels/attention';
import { type LinearW4Args, linearW4 } from '../kernels/linear-w4';
import { hasMatrixTile } from '../kernels/matmul-w4';
import { chooseMatrixTile, matrixTiles } from '../kernels/matrix-tile';
import type { KernelContext, Op } from '../kernels/op';
import { type SiluMulArgs, siluMul } from '../kernels/silu-mul';

/** Tokens from which queries share their keys: below, a tile of 32 queries is half empty. */
const tiledAttentionTokens = 16;

type Ops = readonly Promise<Op>[];
type Block = Omit<LinearW4Args, 'kind' | 'tuning'>;

/** Whether the int4 product of gate and up applies SwiGLU's gate itself, so that `gate_up` is never stored. */
export function fusesGate(software: boolean, blocks: readonly Pick<Block, 'rows' | 'rowStart'>[]): boolean {
  return !software && blocks.every(({ rows, rowStart }) => rows % 2 === 0 && rowStart % 2 === 0);
}

/** One int4 product of a pass, in the tile that suits its number of tokens. @throws KernelShapeError */
export function matrixLinear(context: KernelContext, args: Block): Ops {
  const { gpu } = context;
  const tiles = matrixTiles.filter((tile) => hasMatrixTile(gpu, tile));
  if (tiles.length === 0) return [linearW4(context, { ...args, kind: 'matrix' })];
  return tiles.map((matrixTile) =>
    when(
      linearW4(context, { ...args, kind: 'matrix', tuning: { matrixTile } }),
      (numTokens) => chooseMatrixTile(tiles, numTokens, args.rows) === matrixTile,
    ),
  );
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
    when(single, (numTokens) => numTokens < tiledAttentionTokens),
    when(attentionTiled(context, args), (numTokens) => numTokens >= tiledAttentionTokens),
  ];
}

/** Records `op` in passes of so many tokens, and nothing in others. */
async function when(op: Promise<Op>, suits: (numTokens: number) => boolean): Promise<Op> {
  const built = await op;
  const grid: Op['grid'] = (numTokens) => (suits(numTokens) ? built.grid(numTokens) : [0, 0, 0]);
  return { ...built, grid };
}
