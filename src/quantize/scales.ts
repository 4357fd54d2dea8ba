/** Static per-channel scales, Eq. 1 of MergeQuant (arXiv 2503.07654). */
import { type ActBits, qMax } from '../format/scheme';
import type { Matrix } from './matrix';

/** Clip ratios that are tried: 1.00, 0.95, …, 0.50. */
export const ratioGrid: readonly number[] = Array.from({ length: 11 }, (_, i) => (20 - i) / 20);

/**
 * Ratios for one scale shared by all channels, 0.9^0 … 0.9^39 = 0.016: a few channels (and the first token's) are so much
 * larger than the rest that the best shared scale lies far below the largest value.
 */
export const tensorRatioGrid: readonly number[] = Array.from({ length: 40 }, (_, i) => 0.9 ** i);

/** Raises `absMax` [K] to the largest magnitudes of `rows` [T, K], channel by channel: a_k = max_t |x_tk|. */
export function updateAbsMax(absMax: Float32Array, rows: Matrix): void {
  const { data, cols } = rows;
  for (let at = 0; at < data.length; at += cols) {
    for (let k = 0; k < cols; k++) {
      const value = Math.abs(data[at + k]!);
      if (value > absMax[k]!) absMax[k] = value;
    }
  }
}

/** Largest magnitude of each column of [T, K]. */
export function channelAbsMax(rows: Matrix): Float32Array {
  const absMax = new Float32Array(rows.cols);
  updateAbsMax(absMax, rows);
  return absMax;
}

/**
 * Eq. 1: s_k = r_k·a_k / Qmax, Qmax = 7 or 127.
 * A channel that was always zero gets scale 0, which drops it: see `reconstruct`.
 * @param ratios one clip ratio for all channels, or one per channel [K].
 */
export function channelScales(
  absMax: Float32Array,
  actBits: ActBits,
  ratios: number | Float32Array = 1,
): Float32Array {
  const max = qMax(actBits);
  return absMax.map((value, k) => ((typeof ratios === 'number' ? ratios : ratios[k]!) * value) / max);
}

/** One static scale for all channels, repeated [K]: s = r·max_k a_k / Qmax. */
export function tensorScales(absMax: Float32Array, actBits: ActBits, ratio = 1): Float32Array {
  const max = absMax.reduce((a, b) => Math.max(a, b), 0);
  return new Float32Array(absMax.length).fill((ratio * max) / qMax(actBits));
}

/** Channels at each ratio of `ratioGrid`, 1.00 first. */
export function ratioCounts(ratios: Float32Array): number[] {
  const counts = new Array<number>(ratioGrid.length).fill(0);
  for (const ratio of ratios) counts[ratioGrid.findIndex((tried) => Math.fround(tried) === ratio)]!++;
  return counts;
}
