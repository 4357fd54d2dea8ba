/**
 * Zero points of static channels, beyond the paper: a channel whose values lie around c_k ≠ 0 wastes half of a range that is
 * symmetric around 0. With z_k = round(−c_k/s_k), q_k = clamp(round(x_k/s_k) + z_k) covers c_k ± Qmax·s_k, and
 * Σ_k W'_nk·(q_k − z_k) = Σ_k W'_nk·q_k + b_n: nothing at run time but an integer added by the norm and a bias. The bias is
 * made from the float W', so that the weights' rounding meets the small centered integers only.
 */
import type { ClipInputs } from './clip';
import { type Matrix, matrix } from './matrix';
import type { Reconstruction } from './reconstruct';
import { channelAbsMax } from './scales';

/** Kernels take offsets below 2,048. */
const mostOffset = 2047;

/** The middle of each channel's range over the sampled rows, c [K]. */
export function rangeCenters(rows: Matrix): Float32Array {
  const low = new Float32Array(rows.cols).fill(Number.POSITIVE_INFINITY);
  const high = new Float32Array(rows.cols).fill(Number.NEGATIVE_INFINITY);
  rows.data.forEach((value, i) => {
    const k = i % rows.cols;
    low[k] = Math.min(low[k]!, value);
    high[k] = Math.max(high[k]!, value);
  });
  return low.map((value, k) => (value + high[k]!) / 2);
}

/** What a clip search sees of the shifted site: X − c and its largest magnitudes in the sample. */
export function centeredInputs(inputs: ClipInputs, centers: Float32Array): ClipInputs {
  const { rows } = inputs;
  const data = rows.data.map((value, i) => value - centers[i % rows.cols]!);
  const centered = matrix(rows.rows, rows.cols, data);
  return { ...inputs, rows: centered, absMax: channelAbsMax(centered) };
}

/** z_k = round(−c_k/s_k) [K]; 0 for a channel without a step. */
export function zeroPoints(centers: Float32Array, scales: Float32Array): Int32Array {
  return Int32Array.from(centers, (center, k) => {
    const zero = scales[k]! > 0 ? Math.round(-center / scales[k]!) : 0;
    return Math.max(-mostOffset, Math.min(mostOffset, zero));
  });
}

/** The columns with their channels' zero points [K] as offsets; pieces of a channel share its integer and so its zero point. */
export function withZeroPoints(columns: Reconstruction, zeros: Int32Array): Reconstruction {
  const offsets = Int32Array.from(columns.gather, (k, j) => (columns.steps[j]! > 0 ? zeros[k]! : 0));
  return { ...columns, offsets, centered: true };
}

/** bias_n − Σ_j W'_nj·z_j: what takes the zero points off again. @param zeros per column [K'] */
export function zeroBias(migrated: Matrix, zeros: Int32Array, bias: Float32Array | null): Float32Array {
  const { data, rows, cols } = migrated;
  return Float32Array.from({ length: rows }, (_, n) => {
    let sum = bias?.[n] ?? 0;
    for (let j = 0; j < cols; j++) sum -= data[n * cols + j]! * zeros[j]!;
    return sum;
  });
}
