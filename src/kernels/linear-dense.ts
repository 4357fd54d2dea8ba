import frameSource from '../../shaders/dense_frame.wgsl?raw';
import vectorSource from '../../shaders/dense_vector.wgsl?raw';
import dot4Source from '../../shaders/dot4.wgsl?raw';
import rowsSource from '../../shaders/linear_dense_rows.wgsl?raw';
import matmulSource from '../../shaders/matmul_dense.wgsl?raw';
import matvecSource from '../../shaders/matvec_dense.wgsl?raw';
import matvecSubgroupSource from '../../shaders/matvec_dense_sg.wgsl?raw';
import type { GpuMemory } from '../gpu/arena';
import { denseStride, elementBytes, type MatrixDtype } from './dense-layout';
import { foldGrid, type Grid, type KernelContext, makeOp, type Op, type OpSpec, requireShape } from './op';

/** Invocations of a matvec workgroup, and rows of one in the version without subgroups. */
const matvecWorkgroup = 256;
const matvecRows = 8;
/** Invocations of a workgroup of the version for software adapters, one row each. */
const rowsWorkgroup = 64;

/** Tokens and rows of a matmul tile. */
const matmulTile = 64;

export interface LinearDenseArgs {
  /**
   * `vector` is made for few tokens (decode, head), `matrix` for many (prefill). Each is right for any T and gives a
   * token the same bits whatever T is; the two add in different orders.
   */
  readonly kind: 'vector' | 'matrix';
  readonly dtype: MatrixDtype;
  readonly inputs: number; // K
  /** Rows of this block of the weight, and the first of them. */
  readonly rows: number;
  readonly rowStart: number;
  readonly outputs: number; // N, all blocks together
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly x: GPUBuffer; // [T, K] f32
  readonly weight: GpuMemory; // [rows, denseStride(K)] of dtype
  /** For I8: what a row's sum is multiplied by. */
  readonly scale?: GpuMemory | null; // [N] f32
  readonly bias: GpuMemory | null; // [N] f32
  readonly y: GPUBuffer; // [T, N] f32
  /** Add to what y holds instead of replacing it. */
  readonly accumulate: boolean;
  /** Row 0 of x alone, whatever T is (`vector` only): the head behind a `lastRowOnly` norm. */
  readonly singleRow?: boolean;
}

/**
 * y[:, rowStart … rowStart + rows] = x·weightᵀ (·scale) (+ bias) (+ y) in float32.
 * @throws KernelShapeError for I8 without scales, when the block lies outside the outputs, or `singleRow` is asked of `matrix`
 */
export function linearDense(context: KernelContext, args: LinearDenseArgs): Promise<Op> {
  const { inputs, rows, rowStart, outputs, singleRow = false } = args;
  const block = `rows ${rowStart} to ${rowStart + rows}`;
  requireShape(rowStart + rows <= outputs, 'linearDense', `${block} within ${outputs} outputs`);
  requireShape(!singleRow || args.kind === 'vector', 'linearDense', 'kind vector with singleRow');
  requireShape(args.dtype !== 'I8' || Boolean(args.scale), 'linearDense', 'scales for a weight of bytes');
  const quads = (denseStride(inputs, args.dtype) * elementBytes[args.dtype]) / 16;
  const params = { K: inputs, rows, rowStart, N: outputs, quads };
  return makeOp(context, {
    ...chooseKernel(context, args),
    bindings: [
      context.arena.uniform('linear_dense.params', params),
      args.step,
      args.x,
      args.weight,
      args.bias ?? args.weight, // the binding must hold something; HAS_BIAS keeps it unread
      args.y,
      args.scale ?? args.weight, // likewise
    ],
  });
}

type KernelChoice = Omit<OpSpec, 'bindings'>;

function chooseKernel(context: KernelContext, args: LinearDenseArgs): KernelChoice {
  if (context.gpu.caps.software) return rowsSpec(args);
  return args.kind === 'matrix' ? matmulSpec(args) : matvecSpec(context, args);
}

function rowsSpec(args: LinearDenseArgs): KernelChoice {
  const [x, y] = foldGrid(Math.ceil(args.rows / rowsWorkgroup));
  const tokens = args.kind === 'vector' ? 1 : 4; // that one invocation takes
  return {
    label: 'linear_dense_rows',
    source: `${frameSource}\n${vectorSource}\n${rowsSource}`,
    constants: {
      ...sharedConstants(args),
      SINGLE_ROW: args.singleRow ? 1 : 0,
      WORKGROUP: rowsWorkgroup,
      TOKENS: tokens,
    },
    grid: (numTokens) => [x, y, args.singleRow ? 1 : Math.ceil(numTokens / tokens)],
  };
}

function matvecSpec({ gpu: { caps } }: KernelContext, args: LinearDenseArgs): KernelChoice {
  const constants = { ...sharedConstants(args), SINGLE_ROW: args.singleRow ? 1 : 0 };
  const grid =
    (rowsPerGroup: number) =>
    (numTokens: number): Grid => [
      ...foldGrid(Math.ceil(args.rows / rowsPerGroup)),
      args.singleRow ? 1 : numTokens,
    ];
  if (!caps.subgroups) {
    const source = `${frameSource}\n${vectorSource}\n${matvecSource}`;
    return { label: 'matvec_dense', source, constants, grid: grid(matvecRows) };
  }
  // One row per subgroup where the size is known; more small subgroups than 16 would leave too few workgroups.
  const rowsAtOnce = args.dtype === 'I8' ? 4 : 1;
  const rowsPerGroup = rowsAtOnce * Math.min(16, Math.max(2, matvecWorkgroup / caps.subgroupMinSize));
  return {
    label: 'matvec_dense_sg',
    source: `${frameSource}\n${vectorSource}\n${matvecSubgroupSource}`,
    enables: ['subgroups'],
    constants: { ...constants, ROWS_PER_GROUP: rowsPerGroup },
    grid: grid(rowsPerGroup),
  };
}

function matmulSpec(args: LinearDenseArgs): KernelChoice {
  return {
    label: 'matmul_dense',
    source: `${frameSource}\n${dot4Source}\n${matmulSource}`,
    constants: sharedConstants(args),
    grid: (numTokens) => [...foldGrid(Math.ceil(args.rows / matmulTile)), Math.ceil(numTokens / matmulTile)],
  };
}

function sharedConstants({ dtype, inputs, bias, accumulate }: LinearDenseArgs) {
  return {
    ELEMENT_BYTES: elementBytes[dtype],
    K_ALIGN: [dtype === 'I8' ? 16 : 8, 4, 1].find((align) => inputs % align === 0)!,
    HAS_BIAS: bias ? 1 : 0,
    ACCUMULATE: accumulate ? 1 : 0,
  };
}
