/** GPTQ on the GPU: the triangular form of src/quantize/gptq.ts in blocks of 64 columns, all rows and scale trials at once. */
import chooseSource from '../../shaders/gptq_choose.wgsl?raw';
import roundSource from '../../shaders/gptq_round_block.wgsl?raw';
import solveSource from '../../shaders/gptq_solve_block.wgsl?raw';
import rowScalesSource from '../../shaders/row_scales.wgsl?raw';
import { foldGrid } from '../kernels/op';
import { type GptqOptions, scaleTrials } from '../quantize/gptq';
import { intRange, type Matrix } from '../quantize/matrix';
import { type QuantizedMatrix, scaleGrid } from '../quantize/rtn';
import { columnMap, freeColumnMap, mapColumns } from './elementwise';
import { blockColumns, factorGram, type UpperFactor } from './factor';
import { gemm } from './gemm';
import type { GpuWork } from './gpu-work';

/** Rows rounded together: their codes at three scales take 3 · 4,096 · K' · 4 bytes, 541 MB at K' = 11,008. */
const chunkRows = 4096;

const { min: low, max: high } = intRange(4);

/** What all chunks of rows share. */
interface Rounding {
  readonly factor: UpperFactor;
  readonly K: number;
  readonly diagonal: GPUBuffer; // [K], in rounding order
  readonly place: GPUBuffer; // [K], a column's number in rounding order
  readonly parts: GPUBuffer; // scaleGrid
  /** Σ_t X̃_tj·X_tk [K, K] where the targets are the float outputs. */
  readonly cross: GPUBuffer | null;
  readonly options: GptqOptions;
}

/** W's columns in rounding order, or W itself where that is the columns' own. */
async function inOrder(work: GpuWork, w: GPUBuffer, rows: number, shared: Rounding, name: string) {
  if (!shared.options.order) return w;
  const { K, factor } = shared;
  const scale = new Float32Array(K).fill(1);
  const map = columnMap(work, scale, { gather: factor.order, divide: false, bits: null });
  const sorted = work.scratch(name, rows * K);
  await mapColumns(work, { buffer: w, rows, cols: K }, map, sorted);
  freeColumnMap(work, map);
  return sorted;
}

/** t = w·U, or the solution of t·Uᵀ = w·Cᵀ + λw; see `weightTargets` and `solveTargets` on the host. */
async function targetsOf(work: GpuWork, w: GPUBuffer, sorted: GPUBuffer, rows: number, shared: Rounding) {
  const { K, factor, cross } = shared;
  const t = work.scratch('gptq.targets', rows * K);
  const size = { M: rows, N: K, K };
  const line = (buffer: GPUBuffer) => ({ buffer, stride: K });
  if (!cross) {
    await gemm(work, {
      ...size,
      a: line(sorted),
      b: { ...line(factor.upper), transposed: true },
      c: line(t),
    });
    return t;
  }
  const wanted = work.scratch('gptq.wanted', rows * K);
  const damped = columnMap(work, new Float32Array(K).fill(factor.damping), { divide: false, bits: null });
  await mapColumns(work, { buffer: w, rows, cols: K }, damped, wanted);
  freeColumnMap(work, damped);
  await gemm(work, { ...size, a: line(w), b: line(cross), c: line(wanted), accumulate: true });
  return solve(work, await inOrder(work, wanted, rows, shared, 'gptq.wanted-sorted'), t, rows, shared);
}

/** t·Uᵀ = y from the last block of columns to the first; y is used up. */
async function solve(work: GpuWork, y: GPUBuffer, t: GPUBuffer, rows: number, { K, factor }: Rounding) {
  for (let at = Math.floor((K - 1) / blockColumns) * blockColumns; at >= 0; at -= blockColumns) {
    const size = Math.min(blockColumns, K - at);
    const end = at + size;
    if (end < K) {
      await gemm(work, {
        M: rows,
        N: size,
        K: K - end,
        a: { buffer: t, stride: K, offset: end },
        b: { buffer: factor.upper, stride: K, offset: at * K + end },
        c: { buffer: y, stride: K, offset: at },
        alpha: -1,
        accumulate: true,
      });
    }
    await work.run({
      label: 'gptq_solve_block',
      source: solveSource,
      uniforms: [{ rows, K, at, size }],
      buffers: [factor.upper, y, t],
      grid: [Math.ceil(rows / 64), 1, 1],
    });
  }
  return t;
}

async function rowScales(work: GpuWork, sorted: GPUBuffer, rows: number, shared: Rounding) {
  const scales = work.scratch('gptq.scales', rows);
  await work.run({
    label: 'row_scales',
    source: rowScalesSource,
    constants: { WORKGROUP: work.gpu.caps.software ? 4 : 64 },
    uniforms: [{ rows, K: shared.K, P: scaleGrid.length, low: { f32: low }, high: { f32: high } }],
    buffers: [sorted, shared.diagonal, shared.parts, scales],
    grid: [...foldGrid(rows), 1],
  });
  return scales;
}

/** Codes of one chunk at every trial's scale, [trials · rows, K], and their sums. */
async function roundChunk(work: GpuWork, t: GPUBuffer, scales: GPUBuffer, rows: number, shared: Rounding) {
  const { K, factor, diagonal } = shared;
  const all = scaleTrials.length * rows;
  const q = work.scratch('gptq.codes', all * K);
  const before = work.scratch('gptq.before', all * blockColumns);
  const sums = work.scratch('gptq.sums', all * 4);
  work.clear(sums);
  for (let at = 0; at < K; at += blockColumns) {
    const size = Math.min(blockColumns, K - at);
    await gemm(work, {
      M: all,
      N: size,
      K: at,
      a: { buffer: q, stride: K },
      b: { buffer: factor.upper, stride: K, offset: at, transposed: true },
      c: { buffer: before, stride: blockColumns },
    });
    await work.run({
      label: 'gptq_round_block',
      source: roundSource,
      uniforms: [{ rows, K, at, size, low: { f32: low }, high: { f32: high }, ...trialFields() }],
      buffers: [factor.upper, t, scales, before, diagonal, q, sums],
      grid: [Math.ceil(all / 64), 1, 1],
    });
  }
  return { q, sums };
}

function trialFields() {
  const [trial0, trial1, trial2] = scaleTrials.map((f32) => ({ f32 }));
  return { trial0: trial0!, trial1: trial1!, trial2: trial2! };
}

/** Rounds rows [from, from + rows) of `weights` into `out`. */
async function quantizeChunk(
  work: GpuWork,
  weights: Matrix,
  from: number,
  rows: number,
  shared: Rounding,
  out: QuantizedMatrix,
): Promise<void> {
  const { K } = shared;
  const w = work.scratch('gptq.weights', Math.min(chunkRows, weights.rows) * K);
  work.write(w, weights.data.subarray(from * K, (from + rows) * K));
  const sorted = await inOrder(work, w, rows, shared, 'gptq.sorted');
  const scales = await rowScales(work, sorted, rows, shared);
  const t = await targetsOf(work, w, sorted, rows, shared);
  const { q, sums } = await roundChunk(work, t, scales, rows, shared);
  const fitted = work.scratch('gptq.fitted', rows);
  const codes = work.scratch('gptq.packed', (rows * K) / 4);
  await work.run({
    label: 'gptq_choose',
    source: chooseSource,
    uniforms: [{ rows, K, ...trialFields() }],
    buffers: [scales, sums, q, shared.place, fitted, codes],
    grid: [...foldGrid(Math.ceil((rows * K) / 4 / 64)), 1],
  });
  out.scales.set(await work.readFloats(fitted, rows), from);
  out.codes.set(new Int8Array((await work.read(codes, (rows * K) / 4)).buffer), from * K);
}

/**
 * GPTQ against Gram matrices on the GPU, as `gptqRound` on the host: float32 where that has float64.
 * @param weights [N, K'], K' a multiple of 4. @param gram lower triangle. @throws NotPositiveDefiniteError
 */
export async function gptqRoundGpu(
  work: GpuWork,
  weights: Matrix,
  gram: GPUBuffer,
  cross: GPUBuffer | null,
  options: GptqOptions,
): Promise<QuantizedMatrix> {
  const { rows, cols: K } = weights;
  const factor = await factorGram(work, gram, K, options);
  const place = new Uint32Array(K);
  factor.order.forEach((k, j) => {
    place[k] = j;
  });
  const shared: Rounding = {
    factor,
    K,
    diagonal: work.upload('gptq.diagonal', factor.diagonal),
    place: work.upload('gptq.place', place),
    parts: work.upload('gptq.parts', Float32Array.from(scaleGrid)),
    cross,
    options,
  };
  const out = { rows, cols: K, codes: new Int8Array(rows * K), scales: new Float32Array(rows) };
  try {
    for (let from = 0; from < rows; from += chunkRows) {
      await quantizeChunk(work, weights, from, Math.min(chunkRows, rows - from), shared, out);
    }
  } finally {
    work.free(factor.upper, shared.diagonal, shared.place, shared.parts);
  }
  return out;
}
