/**
 * SmoothQuant (arXiv 2211.10438), the static baseline: channel k of a norm is divided by f_k = max|X_k|^α / max|W_k|^(1−α) and
 * the columns behind it multiplied, before one scale s quantizes all channels: a static step of s·f_k for channel k, whose weight
 * column takes s·f_k as in Eq. 5.
 */
import type { ClipInputs } from './clip';
import { type Matrix, matrix } from './matrix';
import { channelAbsMax } from './scales';

/** f [K]; 1 where the channel or its column is all zeros. */
export function smoothingFactors(absMax: Float32Array, weight: Matrix, alpha: number): Float32Array {
  const columnMax = channelAbsMax(weight);
  return absMax.map((value, k) => {
    const factor = value ** alpha / columnMax[k]! ** (1 - alpha);
    return factor > 0 && Number.isFinite(factor) ? factor : 1;
  });
}

function divideColumns(rows: Matrix, factors: Float32Array): Matrix {
  return matrix(
    rows.rows,
    rows.cols,
    rows.data.map((value, i) => value / factors[i % rows.cols]!),
  );
}

/** What a clip search sees of the smoothed site: X/f and W·f. */
export function smoothedInputs(inputs: ClipInputs, factors: Float32Array): ClipInputs {
  const { weights } = inputs;
  const data = weights.data.map((value, i) => value * factors[i % weights.cols]!);
  return {
    ...inputs,
    rows: divideColumns(inputs.rows, factors),
    absMax: inputs.absMax.map((value, k) => value / factors[k]!),
    weights: matrix(weights.rows, weights.cols, data),
  };
}
