import source from '../../shaders/matmul_w4.wgsl?raw';
import largeSource from '../../shaders/matmul_w4_large.wgsl?raw';
import subgroupMatrixSource from '../../shaders/matmul_w4_sgm.wgsl?raw';
import siluSource from '../../shaders/silu.wgsl?raw';
import type { LinearW4Args } from './linear-w4';
import { type KernelContext, type OpSpec, requireShape } from './op';

/**
 * Matrix kernels of the int4 product: tiles of 64 rows for short prompts, of 128 × 128 for long ones, and those on
 * `chromium-experimental-subgroup-matrix`. All give the same bits.
 */
export type MatmulW4Tile = 'tile64' | 'tile128' | 'subgroupMatrix';

/** Pipeline and grid of {@link linearW4}'s matrix kind. @throws KernelShapeError */
export function matmulW4(context: KernelContext, args: LinearW4Args): Omit<OpSpec, 'bindings'> {
  const tile = args.tuning?.tile ?? 'tile64';
  if (tile === 'tile64') return smallTiles(args);
  const constants = { SILU: Number(args.silu ?? false) };
  const grid = (numTokens: number) => [Math.ceil(args.rows / 128), Math.ceil(numTokens / 128), 1] as const;
  if (tile === 'tile128')
    return { label: 'matmul_w4_large', source: `${largeSource}\n${siluSource}`, constants, grid };
  const label = 'matmul_w4_sgm';
  requireShape(context.gpu.caps.subgroupMatrixI8, label, 'a device with int8 subgroup matrices');
  return {
    label,
    source: `${subgroupMatrixSource}\n${siluSource}`,
    enables: ['subgroups', 'chromium_experimental_subgroup_matrix'],
    constants,
    grid: (numTokens) => [Math.ceil(args.rows / 64), Math.ceil(numTokens / 128), 1],
  };
}

function smallTiles(args: LinearW4Args): Omit<OpSpec, 'bindings'> {
  const label = 'matmul_w4';
  const tileTokens = args.tuning?.tileTokens ?? 64;
  requireShape([16, 32, 64].includes(tileTokens), label, `tileTokens 16, 32 or 64, not ${tileTokens}`);
  return {
    label,
    source,
    constants: { TILE_T: tileTokens },
    grid: (numTokens) => [Math.ceil(args.rows / 64), Math.ceil(numTokens / tileTokens), 1],
  };
}
