import source from '../../shaders/matmul_w4.wgsl?raw';
import subgroupMatrixFrame from '../../shaders/matmul_w4_sgm_frame.wgsl?raw';
import siluSource from '../../shaders/silu.wgsl?raw';
import type { Gpu } from '../gpu/gpu';
import type { LinearW4Args } from './linear-w4';
import { type MatrixTile, matrixTileSource, matrixTiles, tileBytes, tileRows } from './matrix-tile';
import { type KernelContext, type OpSpec, requireShape } from './op';

type MatmulSpec = Omit<OpSpec, 'bindings'>;

/**
 * Pipeline and grid of {@link linearW4}'s matrix kind: on subgroup matrices where the device has them, else on packed dot
 * products. Both give the same bits. @throws KernelShapeError
 */
export function matmulW4(context: KernelContext, args: LinearW4Args): MatmulSpec {
  const { tuning = {} } = args;
  const { subgroupMatrixI8 } = context.gpu.caps;
  const asked = tuning.subgroupMatrix ?? (subgroupMatrixI8 && tuning.tileTokens === undefined);
  requireShape(!asked || subgroupMatrixI8, 'matmul_w4_sgm', 'a device with int8 subgroup matrices');
  if (!asked) return onDotProducts(args);
  const tile = tuning.matrixTile ?? matrixTiles[0];
  requireShape(hasMatrixTile(context.gpu, tile), 'matmul_w4_sgm', 'a device with room for the tile');
  return onMatrices(args, tile);
}

/** Whether {@link linearW4} can take this `matrixTile` there. */
export function hasMatrixTile({ caps, device }: Gpu, tile: MatrixTile): boolean {
  return caps.subgroupMatrixI8 && device.limits.maxComputeWorkgroupStorageSize >= tileBytes(tile);
}

function onMatrices({ rows, silu = false }: LinearW4Args, tile: MatrixTile): MatmulSpec {
  return {
    label: `matmul_w4_sgm_${tile.tokens}_k${tile.step}`,
    source: [subgroupMatrixFrame, matrixTileSource(tile), siluSource].join('\n'),
    enables: ['subgroups', 'chromium_experimental_subgroup_matrix'],
    constants: { SILU: Number(silu) },
    grid: (numTokens) => [Math.ceil(numTokens / tile.tokens), Math.ceil(rows / tileRows), 1],
  };
}

function onDotProducts({ rows, silu = false, tuning }: LinearW4Args): MatmulSpec {
  const label = 'matmul_w4';
  const tileTokens = tuning?.tileTokens ?? 64;
  requireShape([16, 32, 64].includes(tileTokens), label, `tileTokens 16, 32 or 64, not ${tileTokens}`);
  return {
    label,
    source: `${source}\n${siluSource}`,
    constants: { TILE_T: tileTokens, SILU: Number(silu) },
    grid: (numTokens) => [Math.ceil(rows / 64), Math.ceil(numTokens / tileTokens), 1],
  };
}
