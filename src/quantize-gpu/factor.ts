/** The triangular factor of GPTQ's Hessian on the GPU. */
import blockSource from '../../shaders/cholesky_block.wgsl?raw';
import panelSource from '../../shaders/cholesky_panel.wgsl?raw';
import hessianSource from '../../shaders/damped_hessian.wgsl?raw';
import upperSource from '../../shaders/upper_factor.wgsl?raw';
import { NotPositiveDefiniteError } from '../quantize/cholesky';
import type { GptqOptions } from '../quantize/gptq';
import { gemm } from './gemm';
import type { GpuWork } from './gpu-work';

/** Columns of one step of the factorization, and of one step of rounding behind it. */
export const blockColumns = 64;

const noFailure = 0xffffffff;

/**
 * A = L·Lᵀ in place: the lower triangle of `a` [n, n] is read and replaced. Blocks of 64 columns: a diagonal block in one
 * workgroup, the rows below it each by itself, what they take from the rest as one product. Float32: backward stable, so the
 * result is the exact factor of a matrix whose elements are off by about n·2⁻²⁴ of the largest diagonal element.
 * @throws NotPositiveDefiniteError naming the first bad pivot
 */
export async function choleskyGpu(work: GpuWork, a: GPUBuffer, n: number): Promise<void> {
  const status = work.upload('cholesky.status', Uint32Array.of(noFailure));
  const panel = work.scratch('cholesky.panel', n * blockColumns);
  for (let at = 0; at < n; at += blockColumns) {
    const size = Math.min(blockColumns, n - at);
    const uniforms = [{ n, at, size }];
    await work.run({
      label: 'cholesky_block',
      source: blockSource,
      uniforms,
      buffers: [a, status],
      grid: [1, 1, 1],
    });
    const below = n - at - size;
    if (below === 0) break;
    await work.run({
      label: 'cholesky_panel',
      source: panelSource,
      uniforms,
      buffers: [a, panel],
      grid: [Math.ceil(below / blockColumns), 1, 1],
    });
    const rows = { buffer: panel, stride: blockColumns };
    const c = { buffer: a, stride: n, offset: (at + size) * (n + 1) };
    await gemm(work, {
      M: below,
      N: below,
      K: blockColumns,
      a: rows,
      b: rows,
      c,
      alpha: -1,
      accumulate: true,
      lower: true,
    });
  }
  const [failed] = await work.read(status, 1);
  work.free(status);
  if (failed !== noFailure) {
    throw new NotPositiveDefiniteError(`pivot ${failed} of ${n}, expected above 0`);
  }
}

/** U of H = U·Uᵀ, H the damped Gram matrix in rounding order. */
export interface UpperFactor {
  readonly upper: GPUBuffer; // [K, K]
  readonly order: Uint32Array<ArrayBuffer>; // [K]
  readonly diagonal: Float32Array<ArrayBuffer>; // [K], the Gram matrix's own, in that order
  /** What was added to the diagonal in the targets' equation, see `crossTargets`. */
  readonly damping: number;
}

/** @param gram [K, K], lower triangle. @throws NotPositiveDefiniteError */
export async function factorGram(
  work: GpuWork,
  gram: GPUBuffer,
  K: number,
  options: Pick<GptqOptions, 'damping' | 'order'>,
): Promise<UpperFactor> {
  const order = Uint32Array.from({ length: K }, (_, k) => k);
  const inOrder = work.upload('gptq.order', order);
  const hessian = (diagonalOnly: boolean, damping: number, h: GPUBuffer) =>
    work.run({
      label: 'damped_hessian',
      source: hessianSource,
      constants: { DIAGONAL: diagonalOnly ? 1 : 0 },
      uniforms: [{ n: K, damping: { f32: damping } }],
      buffers: [gram, inOrder, h],
      grid: [Math.ceil(K / 64), diagonalOnly ? 1 : K, 1],
    });
  const own = work.create('gptq.diagonal', K);
  await hessian(true, 0, own);
  const diagonal = await work.readFloats(own, K);
  if (options.order) order.sort((a, b) => diagonal[b]! - diagonal[a]! || a - b);
  work.write(inOrder, order);
  const mean = diagonal.reduce((a, b) => a + b, 0) / K;
  const h = work.create('gptq.hessian', K * K);
  await hessian(false, mean > 0 ? options.damping * mean : 1, h);
  try {
    await choleskyGpu(work, h, K);
    const upper = work.create('gptq.upper', K * K);
    await work.run({
      label: 'upper_factor',
      source: upperSource,
      uniforms: [{ n: K }],
      buffers: [h, upper],
      grid: [Math.ceil(K / 64), K, 1],
    });
    const sorted = diagonal.map((_, k) => diagonal[order[k]!]!);
    return { upper, order, diagonal: sorted, damping: options.damping * mean };
  } finally {
    work.free(own, h, inOrder);
  }
}
