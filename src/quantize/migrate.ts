/**
 * Quantization step migration, Eq. 4–5 of MergeQuant (arXiv 2503.07654): the norm's weight γ_k becomes γ_k/s_k, so the
 * norm's rounded output is the integer itself, and s_k moves into the weights, W'_nk = s_k·W_nk.
 */
import type { ActBits } from '../format/scheme';
import { clamp, intRange, type Matrix, matrix, roundHalfEven } from './matrix';
import type { Reconstruction } from './reconstruct';

/** Eq. 4 on reconstructed columns: mult_j = γ[gather_j] / step_j [K'], 0 where the column is padding or always zero. */
export function mergeNorm(gamma: Float32Array, columns: Reconstruction): Float32Array {
  return columns.steps.map((step, j) => {
    const merged = gamma[columns.gather[j]!]! / step;
    return step > 0 && Number.isFinite(Math.fround(merged)) ? merged : 0;
  });
}

/** Eq. 5 on reconstructed columns: W'_nj = piece_j·W[n, gather_j]. [N, K] -> [N, K']. */
export function migrateWeights(weights: Matrix, columns: Reconstruction): Matrix {
  const width = columns.gather.length;
  const out = matrix(weights.rows, width);
  for (let n = 0; n < weights.rows; n++) {
    const from = n * weights.cols;
    const to = n * width;
    for (let j = 0; j < width; j++)
      out.data[to + j] = columns.pieces[j]! * weights.data[from + columns.gather[j]!]!;
  }
  return out;
}

/** W'_nk = s_k·W_nk without gathering, padded with zero columns to `width` (the inputs of o and down). */
export function scaleColumns(weights: Matrix, scales: Float32Array | null, width: number): Matrix {
  const out = matrix(weights.rows, width);
  for (let n = 0; n < weights.rows; n++) {
    for (let k = 0; k < weights.cols; k++) {
      const value = weights.data[n * weights.cols + k]!;
      out.data[n * width + k] = scales ? scales[k]! * value : value;
    }
  }
  return out;
}

/**
 * The integers that the norm emits: q_tj = clamp(round(x[t, gather_j] / step_j) + offset_j).
 * @param rows RMSNorm's output with γ [T, K]. @returns integers held as floats [T, K'].
 */
export function siteIntegers(rows: Matrix, columns: Reconstruction, actBits: ActBits): Matrix {
  const { min, max } = intRange(actBits);
  const { gather, steps, offsets } = columns;
  const out = matrix(rows.rows, gather.length);
  for (let t = 0; t < rows.rows; t++) {
    for (let j = 0; j < gather.length; j++) {
      if (!(steps[j]! > 0)) continue;
      const integer = roundHalfEven(rows.data[t * rows.cols + gather[j]!]! / steps[j]!) + (offsets?.[j] ?? 0);
      out.data[t * gather.length + j] = clamp(integer, min, max);
    }
  }
  return out;
}

/** Σ_t clamp(round(x_tk/s_k))² [K], the Hessian's diagonal over the integers (up to GPTQ's factor 2). */
export function hessianDiagonal(rows: Matrix, scales: Float32Array, actBits: ActBits): Float32Array {
  const { min, max } = intRange(actBits);
  const diagonal = new Float32Array(rows.cols);
  for (let t = 0; t < rows.rows; t++) {
    for (let k = 0; k < rows.cols; k++) {
      if (!(scales[k]! > 0)) continue;
      diagonal[k]! += clamp(roundHalfEven(rows.data[t * rows.cols + k]! / scales[k]!), min, max) ** 2;
    }
  }
  return diagonal;
}

/** Per-token dynamic integers: s_t = ratio·max_k |x_tk| / Qmax, q = clamp(round(x/s_t)). */
export function tokenIntegers(
  rows: Matrix,
  ratio: number,
  actBits: ActBits,
): { readonly integers: Matrix; readonly scales: Float32Array } {
  const { min, max } = intRange(actBits);
  const integers = matrix(rows.rows, rows.cols);
  const scales = new Float32Array(rows.rows);
  for (let t = 0; t < rows.rows; t++) {
    const row = rows.data.subarray(t * rows.cols, (t + 1) * rows.cols);
    let absMax = 0;
    for (const value of row) absMax = Math.max(absMax, Math.abs(value));
    const scale = (ratio * absMax) / max;
    scales[t] = scale;
    if (!(scale > 0)) continue;
    for (let k = 0; k < row.length; k++) {
      integers.data[t * rows.cols + k] = clamp(roundHalfEven(row[k]! / scale), min, max);
    }
  }
  return { integers, scales };
}
