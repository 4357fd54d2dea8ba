/**
 * Static steps of down's input behind the online Walsh transform, one a block, beyond the paper. A step that all channels of a
 * block share commutes with the block's transform, H·(g ⊙ u/s) = H·(g ⊙ u)/s, so up's rows carry it as they carry channel
 * steps where nothing is rotated (fold.ts), at no cost at run time.
 */
import type { SiteStats } from './calibrate';
import { type Matrix, matrix } from './matrix';
import type { Method } from './method';
import { clipInputs, clips, searchOf } from './quantize-linear';
import { tensorScales } from './scales';

/** Columns [from, from + width) of `x`. */
function columns(x: Matrix, from: number, width: number): Matrix {
  const out = matrix(x.rows, width);
  for (let t = 0; t < x.rows; t++) {
    out.data.set(x.data.subarray(t * x.cols + from, t * x.cols + from + width), t * width);
  }
  return out;
}

/**
 * Steps [F], equal within each block of `size` channels, clipped where that changes least what the block's columns of the linear
 * make of it.
 */
export async function blockScales(
  stats: SiteStats,
  weights: Matrix,
  size: number,
  method: Method,
): Promise<Float32Array> {
  const { actBits } = method;
  const whole = clipInputs(stats, weights, method);
  const scales = new Float32Array(weights.cols);
  for (let from = 0; from < weights.cols; from += size) {
    const absMax = whole.absMax.slice(from, from + size);
    const block = { rows: columns(whole.rows, from, size), weights: columns(weights, from, size), absMax };
    const ratio = clips(method) ? await searchOf(method).tensor({ ...whole, ...block }) : 1;
    scales.set(tensorScales(absMax, actBits, ratio), from);
  }
  return scales;
}
