/** Adaptive clipping, Eq. 7 of MergeQuant (arXiv 2503.07654), and its one-parameter forms for the other quantizers. */
import { type ActBits, qMax } from '../format/scheme';
import type { AsymmetricGrid } from './asymmetric';
import { clamp, intRange, type Matrix, matrix, roundHalfEven } from './matrix';
import { tokenIntegers } from './migrate';
import { LinearMap } from './products';
import { outlierThreshold } from './reconstruct';
import { channelScales, ratioGrid, tensorRatioGrid, tensorScales } from './scales';

/**
 * What a channel's clip ratio minimizes, with X̃ = s·q and W̃' the rounded migrated weight:
 * - `paper`: Eq. 7 as written, Σ_t (X − X̃)² + Σ_n (W' − W̃')²;
 * - `output`: both errors as they reach the linear's output, mean_t (X − X̃)²·‖W_k‖² + mean_t q²·Σ_n (W' − W̃')².
 * - `channel`: the activation's error alone, Σ_t (X − X̃)²;
 * - `none`: nothing is clipped, here and by the dynamic and per-tensor quantizers.
 */
export const clipLosses = ['paper', 'output', 'channel', 'none'] as const;
export type ClipLoss = (typeof clipLosses)[number];

export interface ClipInputs {
  /** Sample rows of the site [T, K]. */
  readonly rows: Matrix;
  /** Largest magnitude per channel over the whole calibration set [K]. */
  readonly absMax: Float32Array;
  /** The linears that the site feeds, stacked [N, K]. */
  readonly weights: Matrix;
  readonly actBits: ActBits;
  /** What the migrated weight is rounded to; null: 4 bits around 0, one step a row. */
  readonly weightGrid?: AsymmetricGrid | null;
}

/** Distance and place of the migrated weight's levels, per row and group of channels [N, G]. */
interface MigratedLevels {
  /** Channels of a group; the columns that reconstruction will add are not known yet. */
  readonly size: number;
  readonly groups: number;
  readonly steps: Float32Array;
  readonly origins: Float32Array;
}

/** The levels with strong scales cut at the threshold of Eq. 6: from −max|w| to max|w|, or from min to max. */
function migratedLevels(
  { weights, weightGrid }: ClipInputs,
  scales: Float32Array,
  alpha: number,
): MigratedLevels {
  const threshold = outlierThreshold(scales, alpha);
  const size = weightGrid?.groupSize ?? weights.cols;
  const groups = Math.ceil(weights.cols / size);
  const lows = new Float32Array(weights.rows * groups);
  const highs = new Float32Array(weights.rows * groups);
  weights.data.forEach((weight, i) => {
    const k = i % weights.cols;
    const group = ((i - k) / weights.cols) * groups + Math.floor(k / size);
    const value = Math.min(scales[k]!, threshold) * weight;
    lows[group] = Math.min(lows[group]!, value);
    highs[group] = Math.max(highs[group]!, value);
  });
  if (!weightGrid) {
    const steps = highs.map((high, n) => Math.max(high, -lows[n]!) / 7);
    return { size, groups, steps, origins: new Float32Array(weights.rows) };
  }
  const steps = highs.map((high, group) => (high - lows[group]!) / (2 ** weightGrid.bits - 1));
  return { size, groups, steps, origins: lows };
}

/** Σ_n of the squared distance from s_k·W_nk to its nearest level, per channel [K]. */
function migratedErrors(
  weights: Matrix,
  scales: Float32Array,
  { size, groups, steps, origins }: MigratedLevels,
): Float64Array {
  const errors = new Float64Array(weights.cols);
  for (let n = 0; n < weights.rows; n++) {
    for (let k = 0; k < weights.cols; k++) {
      const group = n * groups + Math.floor(k / size);
      const step = steps[group]!;
      if (!(step > 0)) continue;
      const inSteps = (scales[k]! * weights.data[n * weights.cols + k]! - origins[group]!) / step;
      errors[k]! += (step * (inSteps - Math.round(inSteps))) ** 2;
    }
  }
  return errors;
}

/** Per channel Σ_t (x − s·q)² and Σ_t q². */
function activationSums(rows: Matrix, scales: Float32Array, actBits: ActBits) {
  const { min, max } = intRange(actBits);
  const errors = new Float64Array(rows.cols);
  const squares = new Float64Array(rows.cols);
  for (let t = 0; t < rows.rows; t++) {
    for (let k = 0; k < rows.cols; k++) {
      const value = rows.data[t * rows.cols + k]!;
      const scale = scales[k]!;
      if (!(scale > 0)) continue;
      const q = clamp(roundHalfEven(value / scale), min, max);
      errors[k]! += (value - scale * q) ** 2;
      squares[k]! += q * q;
    }
  }
  return { errors, squares };
}

/** ‖W_k‖² per column [K]. */
function columnNorms(weights: Matrix): Float64Array {
  const norms = new Float64Array(weights.cols);
  for (let i = 0; i < weights.data.length; i++) norms[i % weights.cols]! += weights.data[i]! ** 2;
  return norms;
}

/** What rounding at one clip ratio costs, per channel [K]. */
export interface RatioSums {
  /** Σ_t (X − X̃)² and Σ_t q². */
  readonly errors: Float64Array;
  readonly squares: Float64Array;
  /** Σ_n (W' − W̃')². */
  readonly migrated: Float64Array;
}

/** The ratio of least loss per channel [K], from `ratioGrid`; ties keep the larger. @param norms ‖W_k‖² */
export function chooseRatios(
  loss: Exclude<ClipLoss, 'none'>,
  tokens: number,
  norms: Float64Array,
  sumsOf: (ratio: number) => RatioSums,
): Float32Array {
  const best = new Float32Array(norms.length).fill(1);
  const least = new Float64Array(norms.length).fill(Number.POSITIVE_INFINITY);
  for (const ratio of ratioGrid) {
    const { errors, squares, migrated } = sumsOf(ratio);
    for (let k = 0; k < norms.length; k++) {
      const losses = {
        channel: errors[k]!,
        paper: errors[k]! + migrated[k]!,
        output: (errors[k]! * norms[k]! + squares[k]! * migrated[k]!) / tokens,
      };
      const total = losses[loss];
      if (total >= least[k]!) continue;
      least[k] = total;
      best[k] = ratio;
    }
  }
  return best;
}

/** Eq. 7: the ratio of least loss per channel [K], from `ratioGrid`. */
export function clipChannels(inputs: ClipInputs, loss: ClipLoss, alpha: number): Float32Array {
  const { rows, absMax, weights, actBits } = inputs;
  if (loss === 'none') return new Float32Array(rows.cols).fill(1);
  const levels = migratedLevels(inputs, channelScales(absMax, actBits), alpha);
  return chooseRatios(loss, rows.rows, columnNorms(weights), (ratio) => {
    const scales = channelScales(absMax, actBits, ratio);
    return { ...activationSums(rows, scales, actBits), migrated: migratedErrors(weights, scales, levels) };
  });
}

/** The ratio whose rounded rows change the linear's output least: min_r ‖(X − X̃(r))·Wᵀ‖². */
async function leastOutputError(
  inputs: ClipInputs,
  ratios: readonly number[],
  rounded: (ratio: number) => Matrix,
): Promise<number> {
  const map = await LinearMap.load(inputs.weights);
  let best = 1;
  let least = Number.POSITIVE_INFINITY;
  for (const ratio of ratios) {
    const approximated = rounded(ratio);
    const difference = inputs.rows.data.map((value, i) => value - approximated.data[i]!);
    const { data } = await map.apply(matrix(inputs.rows.rows, inputs.rows.cols, difference));
    let error = 0;
    for (const value of data) error += value * value;
    if (error >= least) continue;
    least = error;
    best = ratio;
  }
  map.dispose();
  return best;
}

/** One ratio r for per-token dynamic scales s_t = r·max|x_t|/Qmax, by the linear's output error. */
export function clipTokens(inputs: ClipInputs): Promise<number> {
  const { rows, actBits } = inputs;
  return leastOutputError(inputs, ratioGrid, (ratio) => {
    const { integers, scales } = tokenIntegers(rows, ratio, actBits);
    const data = integers.data.map((q, i) => q * scales[Math.floor(i / rows.cols)]!);
    return matrix(rows.rows, rows.cols, data);
  });
}

/** One ratio r for a per-tensor static scale s = r·max|X|/Qmax, by the linear's output error. */
export function clipTensor(inputs: ClipInputs): Promise<number> {
  const { rows, absMax, actBits } = inputs;
  return leastOutputError(inputs, tensorRatioGrid, (ratio) => {
    const scale = tensorScales(absMax, actBits, ratio)[0]!;
    const limit = qMax(actBits);
    const round = (value: number) =>
      scale > 0 ? scale * clamp(roundHalfEven(value / scale), -limit - 1, limit) : 0;
    return matrix(rows.rows, rows.cols, rows.data.map(round));
  });
}
