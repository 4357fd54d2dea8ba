import matvecSource from '../../shaders/matvec_w4.wgsl?raw';
import fewSource from '../../shaders/matvec_w4_few.wgsl?raw';
import matvecSubgroupSource from '../../shaders/matvec_w4_sg.wgsl?raw';
import aloneSource from '../../shaders/w4_alone.wgsl?raw';
import dotSource from '../../shaders/w4_dot.wgsl?raw';
import storeSource from '../../shaders/w4_store.wgsl?raw';
import teamSource from '../../shaders/w4_team.wgsl?raw';
import type { GpuMemory } from '../gpu/arena';
import { hasOneSubgroupSize } from '../gpu/gpu';
import { matmulW4 } from './matmul-w4';
import type { MatrixTile } from './matrix-tile';
import { foldGrid, type KernelContext, makeOp, type Op, type OpSpec, requireShape } from './op';
import { isPowerOfTwo } from './quantizer';

/** Choices that change speed, never bits. */
export interface LinearW4Tuning {
  /** Vector: invocations per workgroup, a power of two up to 256. Default 256. */
  readonly threads?: number;
  /** Vector: 16-byte weight loads in flight per invocation and row: 1, 2 or 4. */
  readonly unroll?: 1 | 2 | 4;
  /** Vector with subgroups: rows that share what is fetched of the activations. */
  readonly rows?: 1 | 2;
  /** Vector with subgroups: subgroups that share a row, a power of two. */
  readonly split?: number;
  /** Vector without subgroups: invocations per row, a power of two up to `threads`. Default 32. */
  readonly lanesPerRow?: number;
  /** Vector: false keeps to workgroup memory although the device has subgroups. */
  readonly subgroups?: boolean;
  /**
   * Few: tokens that share a load of weights, 2 to 8; what a group has fewer is computed for nothing. Default 2, the fastest on
   * an H200 for 1 to 32 tokens.
   */
  readonly groupTokens?: number;
  /** Matrix: tokens per tile: 16, 32 or 64. Default 64; smaller ones waste less on short prompts. */
  readonly tileTokens?: 16 | 32 | 64;
  /** Matrix: whether to use subgroup matrices; unless told, where the device has them and `tileTokens` is not given. */
  readonly subgroupMatrix?: boolean;
  /** Matrix on subgroup matrices: the tile, where `hasMatrixTile`; default 64 tokens and steps of 64 elements. */
  readonly matrixTile?: MatrixTile;
}

export interface LinearW4Args {
  /**
   * `vector` for decode (any T, fast at T = 1), `few` for up to about 32 tokens, `matrix` for prefill. All give the same bits.
   */
  readonly kind: 'vector' | 'few' | 'matrix';
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
  readonly qmeta: GPUBuffer; // [T, 2] u32: bits of the f32 scale, of the i32 sum
  readonly weight: GpuMemory; // [rows, K'/8] u32: offset-binary nibbles
  readonly scale: GpuMemory; // [N] f32
  readonly bias: GpuMemory | null; // [N] f32
  readonly y: GPUBuffer; // [T, N] f32
  /** y += result instead of y = result. */
  readonly accumulate: boolean;
  /** y [T, N/2] = silu(gate)·up over pairs of rows (gate, up): `matrix`, on other than software adapters. */
  readonly silu?: boolean;
  readonly tuning?: LinearW4Tuning;
}

/**
 * Linear layer with packed 4-bit weights over 4- or 8-bit integer activations (Eq. 5):
 * `y[t,n] = scale_n · s_t · Σ_k q_tk·w_nk (+ bias_n)`. The integer sum is exact, the float expression one for all kernels,
 * so a token's row is the same bits whatever the kind, the tuning and T.
 * @throws KernelShapeError
 */
export async function linearW4(context: KernelContext, args: LinearW4Args): Promise<Op> {
  requireLinear(args);
  const isMatrix = args.kind === 'matrix' && !context.gpu.caps.software;
  if (args.silu) requireSilu(args, isMatrix);
  const params = context.arena.uniform('linear_w4.params', {
    kPieces: args.inputs / 32,
    rows: args.rows,
    rowStart: args.rowStart,
    N: args.outputs,
  });
  const variant = isMatrix ? matmulW4(context, args) : vectorOrFew(context, args);
  return makeOp(context, {
    ...variant,
    constants: {
      ...variant.constants,
      HAS_BIAS: Number(args.bias !== null),
      ACCUMULATE: Number(args.accumulate),
    },
    // The layout wants a bias buffer even where the kernel reads none.
    bindings: [
      params,
      args.step,
      args.q,
      args.qmeta,
      args.weight,
      args.scale,
      args.bias ?? args.scale,
      args.y,
    ],
  });
}

/** Without subgroups. On a software adapter one invocation per row: cooperation costs more than it saves. */
const plainTuning = {
  hardware: { threads: 256, unroll: 4, lanesPerRow: 32 },
  software: { threads: 64, unroll: 1, lanesPerRow: 1 },
};

/**
 * Two rows a subgroup where there are many; where there are few, one with more loads in flight, or, when rows are long, two
 * that two subgroups share: measured on an H200 at 7B shape, docs/LOG.md.
 */
function subgroupTuning(inputs: number, rows: number) {
  if (rows > 8192) return { threads: 256, unroll: rows > 16384 ? 4 : 2, rows: 2, split: 1 };
  if (inputs > 8192) return { threads: 128, unroll: 1, rows: 2, split: 2 };
  return { threads: 256, unroll: 4, rows: 1, split: 1 };
}

type Variant = Omit<OpSpec, 'bindings'>;

function vectorOrFew(context: KernelContext, args: LinearW4Args): Variant {
  const { software, subgroups, subgroupMaxSize } = context.gpu.caps;
  if (args.kind !== 'few' || software || !subgroups) return vectorVariant(context, args);
  const threads = 256;
  const { groupTokens = 2 } = args.tuning ?? {};
  requireShape(
    Number.isInteger(groupTokens) && groupTokens >= 2 && groupTokens <= 8,
    'matvec_w4_few',
    `groupTokens 2 to 8, not ${groupTokens}`,
  );
  const [x, y] = foldGrid(Math.ceil((args.rows * subgroupMaxSize) / (2 * threads)));
  return {
    label: 'matvec_w4_few',
    source: `${storeSource}\n${fewSource}`,
    enables: ['subgroups'],
    constants: { WORKGROUP: threads, UNROLL: 2, TOKENS: groupTokens },
    grid: (numTokens) => [Math.ceil(numTokens / groupTokens), x, y],
  };
}

function vectorVariant(context: KernelContext, args: LinearW4Args): Variant {
  const { software, subgroups } = context.gpu.caps;
  const inSubgroups = subgroups && (args.tuning?.subgroups ?? !software);
  return inSubgroups ? subgroupVariant(context, args) : plainVariant(context, args);
}

function plainVariant({ gpu }: KernelContext, { rows, tuning }: LinearW4Args): Variant {
  const label = 'matvec_w4';
  const defaults = plainTuning[gpu.caps.software ? 'software' : 'hardware'];
  const { threads, unroll, lanesPerRow } = { ...defaults, ...tuning };
  requireVector(label, threads, unroll);
  const isLanes = isPowerOfTwo(lanesPerRow) && lanesPerRow <= threads;
  requireShape(isLanes, label, `lanesPerRow a power of two up to ${threads}`);
  const [x, y] = foldGrid(Math.ceil(rows / (threads / lanesPerRow)));
  return {
    label,
    source: [dotSource, storeSource, matvecSource].join('\n'),
    constants: { WORKGROUP: threads, UNROLL: unroll, LANES: lanesPerRow },
    grid: (numTokens) => [x, y, numTokens],
  };
}

function subgroupVariant({ gpu }: KernelContext, args: LinearW4Args): Variant {
  const label = 'matvec_w4_sg';
  const { threads, unroll, rows, split } = { ...subgroupTuning(args.inputs, args.rows), ...args.tuning };
  requireVector(label, threads, unroll);
  requireShape(rows === 1 || rows === 2, label, `rows 1 or 2, not ${rows}`);
  const isSplit = isPowerOfTwo(split) && split <= threads;
  requireShape(isSplit, label, `split a power of two up to ${threads}, not ${split}`);
  // Enough workgroups for the widest subgroup this device may choose; with a narrower one the last of them find no row.
  const lanes = Math.min(threads, gpu.caps.subgroupMaxSize);
  const subgroups = threads / lanes;
  const teamLanes = Math.min(split, subgroups) * lanes;
  const [x, y] = foldGrid(Math.ceil(args.rows / ((threads / teamLanes) * rows)));
  return {
    label,
    source: [dotSource, storeSource, split > 1 ? teamSource : aloneSource, matvecSubgroupSource].join('\n'),
    enables: ['subgroups'],
    constants: {
      ...{ WORKGROUP: threads, UNROLL: unroll, ROWS: rows, SPLIT: split },
      ...(hasOneSubgroupSize(gpu) && { LANES: lanes, ...roundsOf(args.inputs, teamLanes) }),
    },
    grid: (numTokens) => [x, y, numTokens],
  };
}

/** How a row's 16-byte pieces fall to the lanes of a team; K' that differ in the rest alone share a pipeline. */
function roundsOf(inputs: number, teamLanes: number) {
  const pieces = inputs / 32;
  const rest = pieces % teamLanes;
  const restKind = rest === 0 ? 0 : 4 * rest <= teamLanes ? 1 : 2;
  return { ROUNDS: Math.floor(pieces / teamLanes), REST: restKind };
}

function requireVector(label: string, threads: number, unroll: number): void {
  const isGroup = isPowerOfTwo(threads) && threads <= 256;
  requireShape(isGroup, label, `threads a power of two up to 256, not ${threads}`);
  requireShape([1, 2, 4].includes(unroll), label, `unroll 1, 2 or 4, not ${unroll}`);
}

function requireSilu({ rows, rowStart, accumulate }: LinearW4Args, isMatrix: boolean): void {
  requireShape(isMatrix, 'linear_w4', 'kind matrix with silu, and no software adapter');
  requireShape(rows % 2 === 0 && rowStart % 2 === 0, 'linear_w4', 'whole pairs of rows with silu');
  requireShape(!accumulate, 'linear_w4', 'silu without accumulate');
}

function requireLinear(args: LinearW4Args): void {
  const { inputs, rows, rowStart, outputs, weight, scale, bias, y } = args;
  const label = 'linear_w4';
  requireShape(inputs > 0 && inputs % 32 === 0, label, `inputs a positive multiple of 32, not ${inputs}`);
  requireShape(
    rows > 0 && rowStart >= 0 && rowStart + rows <= outputs,
    label,
    `rows within ${outputs} outputs, not ${rows} from ${rowStart}`,
  );
  const weightBytes = (rows * inputs) / 2;
  requireShape(weight.size >= weightBytes, label, `weight of ${weightBytes} bytes, not ${weight.size}`);
  requireShape(scale.size >= 4 * outputs, label, `scale of ${4 * outputs} bytes, not ${scale.size}`);
  requireShape(!bias || bias.size >= 4 * outputs, label, `bias of ${4 * outputs} bytes, not ${bias?.size}`);
  requireShape(y.size >= 4 * outputs, label, `y of at least ${4 * outputs} bytes, not ${y.size}`);
}
