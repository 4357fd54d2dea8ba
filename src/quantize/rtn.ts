/** Symmetric 4-bit weights per output channel, rounded to the nearest. */
import type { MatrixGrid } from './asymmetric';
import type { LinearProblem } from './linear-problem';
import { clamp, intRange, type Matrix } from './matrix';

/**
 * Integer codes, row-major [N, K'], and one scale per row or, with a grid, per group: w ≈ scale·code. Codes are −8 … 7, or what
 * the grid makes of levels and zero points.
 */
export interface QuantizedMatrix {
  readonly rows: number;
  readonly cols: number;
  readonly codes: Int8Array;
  readonly scales: Float32Array; // [N] or [N, G]
  readonly grid?: MatrixGrid;
  /** The float weights themselves where a measurement leaves them unrounded; `codes` then mean nothing. */
  readonly values?: Matrix;
}

/**
 * How a migrated weight becomes codes: the border behind which other methods go.
 * `problem` holds what the linear multiplies, columns as in `weights`; null without calibration.
 */
export type WeightQuantizer = (
  weights: Matrix,
  problem: LinearProblem | null,
) => QuantizedMatrix | Promise<QuantizedMatrix>;

const weightBits = 4;
/** Row scales that are tried, as parts of max|w|/7. Down to 7/8, code −8 is what holds the maximum. */
export const scaleGrid = Array.from({ length: 26 }, (_, i) => 1 - i / 50);

/** Σ_k c_k·(w_k − scale·code_k)². */
function rowError(row: Float32Array, scale: number, columnWeights: Float32Array | null): number {
  const { min, max } = intRange(weightBits);
  let error = 0;
  for (let k = 0; k < row.length; k++) {
    const value = row[k]!;
    const difference = value - scale * clamp(Math.round(value / scale), min, max);
    error += difference * difference * (columnWeights ? columnWeights[k]! : 1);
  }
  return error;
}

/** The scale of least squared error on the grid; 1 for a row of zeros. */
export function bestRowScale(row: Float32Array, columnWeights: Float32Array | null): number {
  let absMax = 0;
  for (const value of row) absMax = Math.max(absMax, Math.abs(value));
  const widest = absMax / intRange(weightBits).max;
  if (!(Math.fround(widest) > 0)) return 1;
  let best = widest;
  let least = Number.POSITIVE_INFINITY;
  for (const part of scaleGrid) {
    const error = rowError(row, widest * part, columnWeights);
    if (error < least) {
      least = error;
      best = widest * part;
    }
  }
  return Math.fround(best);
}

/** Mean square per column [K'], the diagonal of the inputs' Gram matrix. */
export function meanSquares(inputs: Matrix): Float32Array {
  const out = new Float32Array(inputs.cols);
  for (let i = 0; i < inputs.data.length; i++) out[i % inputs.cols]! += inputs.data[i]! ** 2 / inputs.rows;
  return out;
}

/** Rounds to nearest with the row scale of least squared error, weighted by the inputs' mean squares when given. */
export const roundToNearest = (weights: Matrix, problem: LinearProblem | null): QuantizedMatrix => {
  const { rows, cols } = weights;
  const { min, max } = intRange(weightBits);
  const columnWeights = problem && meanSquares(problem.sample);
  const codes = new Int8Array(rows * cols);
  const scales = new Float32Array(rows);
  for (let n = 0; n < rows; n++) {
    const row = weights.data.subarray(n * cols, (n + 1) * cols);
    const scale = bestRowScale(row, columnWeights);
    scales[n] = scale;
    for (let k = 0; k < cols; k++) codes[n * cols + k] = clamp(Math.round(row[k]! / scale), min, max);
  }
  return { rows, cols, codes, scales };
};

/** Which of a matrix's scales belongs to element `i`. */
export function scaleIndex({ rows, cols, scales, grid }: QuantizedMatrix, i: number): number {
  const groups = scales.length / rows;
  const row = Math.floor(i / cols);
  if (groups === 1) return row;
  return row * groups + Math.floor((i - row * cols) / grid!.groupSize!);
}

/** Runs of neighbouring elements with one scale: number `at`, elements from … to − 1. */
export function* scaleRuns({ rows, cols, scales, grid }: QuantizedMatrix) {
  const groups = scales.length / rows;
  const size = groups === 1 ? cols : grid!.groupSize!;
  for (let at = 0; at < scales.length; at++) {
    const row = Math.floor(at / groups) * cols;
    const from = row + (at % groups) * size;
    yield { at, from, to: Math.min(from + size, row + cols) };
  }
}

/** What the codes stand for: scale·code [N, K']. */
export function dequantize(quantized: QuantizedMatrix): Matrix {
  const { rows, cols, codes, scales, values } = quantized;
  if (values) return values;
  const data = new Float32Array(codes.length);
  for (const { at, from, to } of scaleRuns(quantized)) {
    for (let i = from; i < to; i++) data[i] = codes[i]! * scales[at]!;
  }
  return { rows, cols, data };
}

/** Leaves weights as they are: measures what the activations alone cost. Cannot be stored. */
export const keepFloat: WeightQuantizer = (values) => {
  const { rows, cols } = values;
  return { rows, cols, codes: new Int8Array(rows * cols), scales: new Float32Array(rows).fill(1), values };
};
