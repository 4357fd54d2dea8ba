import source from '../../shaders/matmul_w4.wgsl?raw';
import subgroupMatrixSource from '../../shaders/matmul_w4_sgm.wgsl?raw';
import subgroupMatrixFrame from '../../shaders/matmul_w4_sgm_frame.wgsl?raw';
import subgroupMatrixLargeSource from '../../shaders/matmul_w4_sgm_large.wgsl?raw';
import siluSource from '../../shaders/silu.wgsl?raw';
import type { Gpu } from '../gpu/gpu';
import type { LinearW4Args } from './linear-w4';
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
  if (!asked) return dotTiles(args);
  const isLarge = tuning.largeTile ?? false;
  requireShape(
    !isLarge || hasLargeTile(context.gpu),
    'matmul_w4_sgm_large',
    'a device with room for the tile',
  );
  return matrixTiles(args, isLarge);
}

/** Workgroup memory of `matmul_w4_sgm_large`. */
const largeTileBytes = 20_480;

/** Whether {@link linearW4} can take `largeTile` there. */
export function hasLargeTile({ caps, device }: Gpu): boolean {
  return caps.subgroupMatrixI8 && device.limits.maxComputeWorkgroupStorageSize >= largeTileBytes;
}

function matrixTiles({ rows, silu = false }: LinearW4Args, isLarge: boolean): MatmulSpec {
  const tile = isLarge ? subgroupMatrixLargeSource : subgroupMatrixSource;
  const tileTokens = isLarge ? 128 : 64;
  return {
    label: isLarge ? 'matmul_w4_sgm_large' : 'matmul_w4_sgm',
    source: [subgroupMatrixFrame, tile, siluSource].join('\n'),
    enables: ['subgroups', 'chromium_experimental_subgroup_matrix'],
    constants: { SILU: Number(silu) },
    grid: (numTokens) => [Math.ceil(rows / 128), Math.ceil(numTokens / tileTokens), 1],
  };
}

function dotTiles({ rows, silu = false, tuning }: LinearW4Args): MatmulSpec {
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
