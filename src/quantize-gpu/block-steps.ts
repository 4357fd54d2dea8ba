/** The steps of a transformer block over one sequence on the GPU, as src/quantize/forward.ts has them on the host. */

import softmaxSource from '../../shaders/causal_softmax.wgsl?raw';
import rmsNormSource from '../../shaders/rmsnorm.wgsl?raw';
import ropeShared from '../../shaders/rope.wgsl?raw';
import ropeSource from '../../shaders/rope_rows.wgsl?raw';
import siluShared from '../../shaders/silu.wgsl?raw';
import siluHadamardSource from '../../shaders/silu_hadamard.wgsl?raw';
import siluSource from '../../shaders/silu_mul.wgsl?raw';
import type { LlamaConfig } from '../format/config';
import type { HadamardSpec } from '../format/manifest';
import { foldGrid } from '../kernels/op';
import type { RowsBuffer } from './elementwise';
import { gemm } from './gemm';
import type { GpuWork } from './gpu-work';

/** Floats of attention scores held at a time: 256 MiB. */
const scoreFloats = 64 * 2 ** 20;

/** Lanes that share a token: barriers between many are slow on a software adapter. */
function lanes(work: GpuWork): number {
  return work.gpu.caps.software ? 4 : 256;
}

/** y [T, D] = RMSNorm(x)·γ. */
export function rmsNormRows(
  work: GpuWork,
  x: RowsBuffer,
  gamma: GPUBuffer,
  eps: number,
  y: GPUBuffer,
): Promise<void> {
  return work.run({
    label: 'rmsnorm',
    source: rmsNormSource,
    constants: { LAST_ROW: 0, WORKGROUP: lanes(work) },
    uniforms: [{ D: x.cols, eps: { f32: eps } }, { numTokens: x.rows }],
    buffers: [x.buffer, gamma, y],
    grid: [...foldGrid(x.rows), 1],
  });
}

/** A linear's weight on the GPU. */
export interface GpuLinear {
  readonly weight: GPUBuffer; // [N, K]
  readonly bias: GPUBuffer | null; // [N]
  readonly outputs: number;
  readonly inputs: number;
}

/** y [T, N] = x·Wᵀ + b, or y += x·Wᵀ + b. */
export function linearRows(
  work: GpuWork,
  x: RowsBuffer,
  { weight, bias, outputs, inputs }: GpuLinear,
  y: GPUBuffer,
  accumulate = false,
): Promise<void> {
  return gemm(work, {
    M: x.rows,
    N: outputs,
    K: inputs,
    a: { buffer: x.buffer, stride: inputs },
    b: { buffer: weight, stride: inputs },
    c: { buffer: y, stride: outputs },
    bias,
    accumulate,
  });
}

async function rotate(work: GpuWork, qkv: RowsBuffer, config: LlamaConfig, rope: GPUBuffer): Promise<void> {
  const { numHeads, numKvHeads, headDim } = config;
  const heads = numHeads + numKvHeads;
  await work.run({
    label: 'rope_rows',
    source: `${ropeShared}\n${ropeSource}`,
    uniforms: [{ T: qkv.rows, stride: qkv.cols, heads, Dh: headDim }],
    buffers: [rope, qkv.buffer],
    grid: [...foldGrid(Math.ceil((qkv.rows * heads * headDim) / 2 / 64)), 1],
  });
}

/**
 * Causal grouped-query attention from position 0: qkv [T, (H + 2·Hkv)·Dh], whose queries and keys are rotated in place, to
 * out [T, H·Dh]. Scores of some heads at a time lie in memory. @param rope (cos, sin) [positions, Dh/2]
 */
export async function attend(
  work: GpuWork,
  qkv: RowsBuffer,
  config: LlamaConfig,
  rope: GPUBuffer,
  out: GPUBuffer,
): Promise<void> {
  const { numHeads, numKvHeads, headDim } = config;
  const { rows: T, cols: stride } = qkv;
  await rotate(work, qkv, config, rope);
  const batchesPerB = numHeads / numKvHeads;
  const groups = Math.max(1, Math.min(numKvHeads, Math.floor(scoreFloats / (T * T * batchesPerB))));
  const scores = work.scratch('attention.scores', groups * batchesPerB * T * T);
  for (let group = 0; group < numKvHeads; group += groups) {
    const batches = Math.min(groups, numKvHeads - group) * batchesPerB;
    const part = (head: number) => ({ buffer: qkv.buffer, stride, offset: head * headDim, batch: headDim });
    const perHead = { buffer: scores, stride: T, batch: T * T };
    await gemm(work, {
      M: T,
      N: T,
      K: headDim,
      a: part(group * batchesPerB),
      b: part(numHeads + group),
      c: perHead,
      lower: true,
      batches,
      batchesPerB,
    });
    await work.run({
      label: 'causal_softmax',
      source: softmaxSource,
      constants: { WORKGROUP: lanes(work) },
      uniforms: [{ T, scale: { f32: 1 / Math.sqrt(headDim) } }],
      buffers: [scores],
      grid: [T, batches, 1],
    });
    await gemm(work, {
      M: T,
      N: headDim,
      K: T,
      a: perHead,
      b: { ...part(numHeads + numKvHeads + group), transposed: true },
      c: { buffer: out, stride: numHeads * headDim, offset: group * batchesPerB * headDim, batch: headDim },
      batches,
      batchesPerB,
    });
  }
}

/** SwiGLU's gate, and the online rotation of the Hadamard variant: [T, 2F] interleaved -> out [T, F]. */
export function gateRows(
  work: GpuWork,
  gateUp: RowsBuffer,
  hadamard: HadamardSpec | null,
  out: GPUBuffer,
): Promise<void> {
  const F = gateUp.cols / 2;
  const step = { numTokens: gateUp.rows, position: 0 };
  if (!hadamard) {
    return work.run({
      label: 'silu_mul',
      source: `${siluShared}\n${siluSource}`,
      constants: { WORKGROUP: 64 },
      uniforms: [{ F }, step],
      buffers: [gateUp.buffer, out],
      grid: [...foldGrid(Math.ceil((gateUp.rows * F) / 64)), 1],
    });
  }
  const block = hadamard.downBlock;
  const chunk = Math.max(block, 256);
  return work.run({
    label: 'silu_hadamard',
    source: `${siluShared}\n${siluHadamardSource}`,
    constants: { WORKGROUP: Math.min(256, chunk / 2), CHUNK: chunk },
    uniforms: [{ F, block, scale: { f32: 1 / Math.sqrt(block) } }, step],
    buffers: [gateUp.buffer, out],
    grid: [...foldGrid(Math.ceil((gateUp.rows * F) / chunk)), 1],
  });
}
