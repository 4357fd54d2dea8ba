/** Float32 matrix products of the offline method on the GPU: alpha·A·Bᵀ, batched, with a bias, onto C, or the lower triangle alone. */
import dot4 from '../../shaders/dot4.wgsl?raw';
import tiles from '../../shaders/gemm.wgsl?raw';
import operands from '../../shaders/gemm_operands.wgsl?raw';
import own from '../../shaders/gemm_own.wgsl?raw';
import { requireShape } from '../kernels/op';
import type { GpuWork } from './gpu-work';

/** One operand: element (line, k) lies at offset + line·stride + k, or at offset + k·stride + line when `transposed`. */
export interface Operand {
  readonly buffer: GPUBuffer;
  readonly stride: number;
  readonly offset?: number;
  readonly transposed?: boolean;
  /** Elements from one batch to the next. */
  readonly batch?: number;
}

export interface GemmArgs {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly a: Operand;
  readonly b: Operand;
  /** Never transposed. */
  readonly c: Operand;
  readonly alpha?: number;
  /** Add to what C holds. */
  readonly accumulate?: boolean;
  readonly bias?: GPUBuffer | null; // [N]
  /** Leave tiles above the diagonal alone. */
  readonly lower?: boolean;
  readonly batches?: number;
  /** Neighbouring batches that share an operand b (query heads of one key head). */
  readonly batchesPerB?: number;
}

/** Whether a line's elements can be loaded four at a time. @param inner elements of the inner dimension */
function isFours({ offset = 0, stride, batch = 0, transposed }: Operand, K: number): boolean {
  return [offset, stride, batch, transposed ? 0 : K].every((value) => value % 4 === 0);
}

/** C = alpha·A·Bᵀ (+ bias) (+ C) in float32, recorded on `work`. @throws KernelShapeError */
export function gemm(work: GpuWork, args: GemmArgs): Promise<void> {
  const { M, N, K, a, b, c, alpha = 1, bias = null, batches = 1, batchesPerB = 1 } = args;
  requireShape(
    c.transposed !== true && a.buffer !== c.buffer,
    'gemm',
    'an output that is no input, not transposed',
  );
  const params = {
    M,
    N,
    K,
    aOffset: a.offset ?? 0,
    aStride: a.stride,
    aBatch: a.batch ?? 0,
    bOffset: b.offset ?? 0,
    bStride: b.stride,
    bBatch: b.batch ?? 0,
    bGroup: batchesPerB,
    cOffset: c.offset ?? 0,
    cStride: c.stride,
    cBatch: c.batch ?? 0,
    alpha: { f32: alpha },
  };
  const { software } = work.gpu.caps;
  const tile = software ? 32 : 64;
  const flag = (value: boolean | undefined) => (value ? 1 : 0);
  return work.run({
    label: 'gemm',
    source: `${dot4}\n${operands}\n${software ? own : tiles}`,
    constants: {
      A_TRANSPOSED: flag(a.transposed),
      B_TRANSPOSED: flag(b.transposed),
      A_FOURS: flag(isFours(a, K)),
      B_FOURS: flag(isFours(b, K)),
      ACCUMULATE: flag(args.accumulate),
      LOWER: flag(args.lower),
      HAS_BIAS: flag(bias !== null),
    },
    uniforms: [params],
    buffers: [a.buffer, b.buffer, bias ?? a.buffer, c.buffer],
    grid: [Math.ceil(N / tile), Math.ceil(M / tile), batches],
  });
}
