/** The clip searches of src/quantize/clip.ts with their sums on the GPU. */
import stepsSource from '../../shaders/migrated_row_steps.wgsl?raw';
import sumsSource from '../../shaders/rounding_sums.wgsl?raw';
import { foldGrid } from '../kernels/op';
import { type ClipInputs, chooseRatios, clipChannels } from '../quantize/clip';
import type { ClipSearch } from '../quantize/layer-device';
import { intRange, type Matrix } from '../quantize/matrix';
import { outlierThreshold } from '../quantize/reconstruct';
import { channelScales, ratioGrid, tensorRatioGrid, tensorScales } from '../quantize/scales';
import {
  columnMap,
  freeColumnMap,
  mapColumns,
  type RowsBuffer,
  roundTokens,
  sumSquares,
} from './elementwise';
import { gemm } from './gemm';
import type { GpuWork } from './gpu-work';
import type { WeightCache } from './weight-cache';

const sumGroups = 256;
/** Rows that one invocation adds up, at least. */
const leastSliceRows = 64;
const mostSlices = 64;

/** Per ratio and channel, `errors` and `squares` of shaders/rounding_sums.wgsl, slices added in float64. */
async function roundingSums(
  work: GpuWork,
  x: RowsBuffer,
  scales: GPUBuffer,
  steps: GPUBuffer | null,
  bits: number,
): Promise<readonly { readonly errors: Float64Array; readonly squares: Float64Array }[]> {
  const { rows, cols: K } = x;
  const slices = Math.max(1, Math.min(mostSlices, Math.ceil(rows / leastSliceRows)));
  const R = ratioGrid.length;
  const ratios = work.upload('clip.ratios', Float32Array.from(ratioGrid));
  const sums = work.create('clip.sums', slices * R * K * 2);
  const { min, max } = intRange(bits);
  const perSlice = Math.ceil(rows / slices);
  await work.run({
    label: 'rounding_sums',
    source: sumsSource,
    constants: { WEIGHTS: steps ? 1 : 0 },
    uniforms: [{ rows, K, perSlice, R, low: { f32: min }, high: { f32: max } }],
    buffers: [x.buffer, scales, steps ?? ratios, ratios, sums],
    grid: [Math.ceil(K / 64), slices, R],
  });
  const values = await work.readFloats(sums, slices * R * K * 2);
  work.free(ratios, sums);
  return ratioGrid.map((_, r) => {
    const errors = new Float64Array(K);
    const squares = new Float64Array(K);
    for (let slice = 0; slice < slices; slice++) {
      for (let k = 0, at = (slice * R + r) * K * 2; k < K; k++, at += 2) {
        errors[k]! += values[at]!;
        squares[k]! += values[at + 1]!;
      }
    }
    return { errors, squares };
  });
}

/** Steps of the migrated weight's rows [N], see `migratedLevels` on the host. */
async function migratedSteps(
  work: GpuWork,
  { rows, cols }: Matrix,
  w: GPUBuffer,
  scales: GPUBuffer,
  threshold: number,
): Promise<GPUBuffer> {
  const steps = work.create('clip.steps', rows);
  await work.run({
    label: 'migrated_row_steps',
    source: stepsSource,
    constants: { WORKGROUP: work.gpu.caps.software ? 4 : 64 },
    uniforms: [{ N: rows, K: cols, threshold: { f32: threshold } }],
    buffers: [w, scales, steps],
    grid: [...foldGrid(rows), 1],
  });
  return steps;
}

export class GpuClipSearch implements ClipSearch {
  constructor(
    readonly work: GpuWork,
    readonly cache: WeightCache,
  ) {}

  /** Asymmetric weight levels are searched on the host. */
  async channels(...[inputs, loss, alpha]: Parameters<ClipSearch['channels']>): Promise<Float32Array> {
    if (loss === 'none' || inputs.weightGrid) return clipChannels(inputs, loss, alpha);
    const { rows, absMax, weights, actBits } = inputs;
    const { work } = this;
    const widest = channelScales(absMax, actBits);
    const scales = work.upload('clip.scales', widest);
    const sample = work.upload('clip.sample', rows.data);
    const activation = await roundingSums(work, { ...rows, buffer: sample }, scales, null, actBits);
    const migrated = await this.cache.with(weights, async (w) => {
      const steps = await migratedSteps(work, weights, w, scales, outlierThreshold(widest, alpha));
      const sums = await roundingSums(work, { ...weights, buffer: w }, scales, steps, actBits);
      work.free(steps);
      return sums;
    });
    work.free(scales, sample);
    return chooseRatios(loss, rows.rows, migrated[0]!.squares, (ratio) => {
      const at = ratioGrid.indexOf(ratio);
      return { ...activation[at]!, migrated: migrated[at]!.errors };
    });
  }

  tokens(inputs: ClipInputs): Promise<number> {
    const { rows, actBits } = inputs;
    return this.#leastOutputError(inputs, ratioGrid, (ratio, x, y) =>
      roundTokens(this.work, x, ratio, actBits, rows.cols, y, true),
    );
  }

  tensor(inputs: ClipInputs): Promise<number> {
    const { absMax, actBits, rows } = inputs;
    const { work } = this;
    return this.#leastOutputError(inputs, tensorRatioGrid, async (ratio, x, y) => {
      const step = tensorScales(absMax, actBits, ratio)[0]!;
      const scale = new Float32Array(rows.cols).fill(step);
      const map = columnMap(work, scale, { divide: true, bits: actBits });
      await mapColumns(work, x, map, y, true);
      freeColumnMap(work, map);
    });
  }

  /** min_r ‖(X − X̃(r))·Wᵀ‖². @param lost writes X − X̃(r) */
  async #leastOutputError(
    { rows, weights }: ClipInputs,
    ratios: readonly number[],
    lost: (ratio: number, x: RowsBuffer, y: GPUBuffer) => Promise<void>,
  ): Promise<number> {
    const { work } = this;
    const x = { ...rows, buffer: work.upload('clip.sample', rows.data) };
    const difference = work.create('clip.difference', rows.data.length);
    const product = work.create('clip.product', rows.rows * weights.rows);
    const sums = work.create('clip.sums', sumGroups);
    const all = work.create('clip.all-sums', sumGroups * ratios.length);
    await this.cache.with(weights, async (w) => {
      for (const [i, ratio] of ratios.entries()) {
        await lost(ratio, x, difference);
        await gemm(work, {
          M: rows.rows,
          N: weights.rows,
          K: rows.cols,
          a: { buffer: difference, stride: rows.cols },
          b: { buffer: w, stride: rows.cols },
          c: { buffer: product, stride: weights.rows },
        });
        await sumSquares(work, product, rows.rows * weights.rows, sums, sumGroups);
        work.copy(sums, 0, all, i * sumGroups, sumGroups);
      }
    });
    const values = await work.readFloats(all, sumGroups * ratios.length);
    const errors = ratios.map((_, i) =>
      values.subarray(i * sumGroups, (i + 1) * sumGroups).reduce((sum, value) => sum + value, 0),
    );
    work.free(x.buffer, difference, product, sums, all);
    return ratios[errors.indexOf(Math.min(...errors))]!;
  }
}
