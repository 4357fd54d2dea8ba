import frameSource from '../../shaders/grid_frame.wgsl?raw';
import decode3Source from '../../shaders/grid3_decode.wgsl?raw';
import decode4Source from '../../shaders/grid4_decode.wgsl?raw';
import matmulSource from '../../shaders/matmul_grid.wgsl?raw';
import matvecSource from '../../shaders/matvec_grid.wgsl?raw';
import type { WeightBits } from '../format/scheme';
import { groupCount, levelWords, type WeightGrid } from '../format/weight-grid';
import type { GpuMemory } from '../gpu/arena';
import { foldGrid, type KernelContext, makeOp, type Op, type OpSpec, requireShape } from './op';
import { isPowerOfTwo } from './quantizer';

/** Choices that change speed, never bits. */
export interface LinearGridTuning {
  /** Vector: invocations per workgroup, a power of two up to 256. Default 256. */
  readonly threads?: number;
  /** Vector: invocations per row, a power of two up to `threads`. Default 32, 1 on software adapters. */
  readonly lanesPerRow?: number;
  /** Matrix: run it on a software adapter, too, where the vector kernel is faster for any number of tokens. */
  readonly alwaysTiled?: boolean;
}

export interface LinearGridArgs {
  /** `vector` for decode (any T, fast at T = 1), `matrix` for prefill. Both give the same bits. */
  readonly kind: 'vector' | 'matrix';
  readonly bits: WeightBits;
  readonly groups: WeightGrid;
  /** K', a multiple of 32. */
  readonly inputs: number;
  /** Rows of this block of the matrix, and the output column of its first one. */
  readonly rows: number;
  readonly rowStart: number;
  /** N, the length of a row of y. */
  readonly outputs: number;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly q: GPUBuffer; // [T, K'/4] u32: four signed 8-bit integers a word
  readonly qmeta: GPUBuffer; // [T, 2] u32: bits of the f32 scale first
  readonly weight: GpuMemory; // [rows, bits·K'/32] u32: packed levels, docs/FORMAT.md §2.4
  readonly grid: GpuMemory; // [N, G] u32: step and zero point of a group
  readonly bias: GpuMemory | null; // [N] f32
  readonly y: GPUBuffer; // [T, N] f32
  /** y += result instead of y = result. */
  readonly accumulate: boolean;
  readonly tuning?: LinearGridTuning;
}

/** Pieces of 32 elements of one invocation of the vector kernel: 48 bytes of 3-bit levels. */
const slicePieces = 4;
const hardwareTuning = { threads: 256, lanesPerRow: 32, alwaysTiled: false };
/** One invocation per row: cooperation costs a software adapter more than it saves. */
const softwareTuning = { threads: 64, lanesPerRow: 1, alwaysTiled: false };

/**
 * Linear layer with 3- or 4-bit weights on grids over 4- or 8-bit integer activations (Table 5):
 * `y[t,n] = s_t · Σ_g step_ng · Σ_{k in g} q_tk·(2^(7−b)·u_nk − zero_ng) (+ bias_n)`. The integer sums are exact and the groups
 * are added in their order, so a token's row is the same bits whatever the kind, the tuning and T.
 * @throws KernelShapeError
 */
export async function linearGrid(context: KernelContext, args: LinearGridArgs): Promise<Op> {
  requireLinear(args);
  const { software } = context.gpu.caps;
  const tuning = { ...(software ? softwareTuning : hardwareTuning), ...args.tuning };
  const { inputs, groups, bits, rows, rowStart, outputs, bias, accumulate } = args;
  const groupPieces = (groups.groupSize ?? inputs) / 32;
  const params = context.arena.uniform('linear_grid.params', {
    ...{ kPieces: inputs / 32, groupPieces, slicePieces, groups: groupCount(groups, inputs) },
    ...{ rows, rowStart, N: outputs },
  });
  const isTiled = args.kind === 'matrix' && (!software || tuning.alwaysTiled);
  const variant = isTiled ? matmul(rows) : matvec(rows, tuning);
  return makeOp(context, {
    ...variant,
    label: `${variant.label}${bits}`,
    source: `${frameSource}\n${bits === 3 ? decode3Source : decode4Source}\n${variant.source}`,
    constants: { ...variant.constants, HAS_BIAS: Number(bias !== null), ACCUMULATE: Number(accumulate) },
    // The layout wants a bias buffer even where the kernel reads none.
    bindings: [params, args.step, args.q, args.qmeta, args.weight, args.grid, bias ?? args.grid, args.y],
  });
}

type Variant = Omit<OpSpec, 'bindings'>;

function matmul(rows: number): Variant {
  return {
    label: 'matmul_grid',
    source: matmulSource,
    grid: (numTokens) => [Math.ceil(rows / 64), Math.ceil(numTokens / 64), 1],
  };
}

function matvec(rows: number, { threads, lanesPerRow }: Required<LinearGridTuning>): Variant {
  const label = 'matvec_grid';
  requireShape(
    isPowerOfTwo(threads) && threads <= 256,
    label,
    `threads a power of two up to 256, not ${threads}`,
  );
  requireShape(
    isPowerOfTwo(lanesPerRow) && lanesPerRow <= threads,
    label,
    `lanesPerRow a power of two up to ${threads}`,
  );
  const [x, y] = foldGrid(Math.ceil((rows * lanesPerRow) / threads));
  return {
    label,
    source: matvecSource,
    constants: { WORKGROUP: threads, LANES: lanesPerRow },
    grid: (numTokens) => [x, y, numTokens],
  };
}

function requireLinear(args: LinearGridArgs): void {
  const { inputs, bits, groups, rows, rowStart, outputs, weight, grid, bias, y } = args;
  const label = 'linear_grid';
  requireShape(inputs > 0 && inputs % 32 === 0, label, `inputs a positive multiple of 32, not ${inputs}`);
  const { groupSize } = groups;
  requireShape(
    groupSize === null || (groupSize > 0 && groupSize % 32 === 0),
    label,
    `groups of a multiple of 32, not ${groupSize}`,
  );
  requireShape(
    rows > 0 && rowStart >= 0 && rowStart + rows <= outputs,
    label,
    `rows within ${outputs} outputs, not ${rows} from ${rowStart}`,
  );
  const weightBytes = 4 * rows * levelWords(bits, inputs);
  requireShape(weight.size >= weightBytes, label, `weight of ${weightBytes} bytes, not ${weight.size}`);
  const gridBytes = 4 * outputs * groupCount(groups, inputs);
  requireShape(grid.size >= gridBytes, label, `grid of ${gridBytes} bytes, not ${grid.size}`);
  requireShape(!bias || bias.size >= 4 * outputs, label, `bias of ${4 * outputs} bytes, not ${bias?.size}`);
  requireShape(y.size >= 4 * outputs, label, `y of at least ${4 * outputs} bytes, not ${y.size}`);
}
