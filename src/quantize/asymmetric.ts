/**
 * Asymmetric weights of 3 or 4 bits (Table 5 of MergeQuant, arXiv 2503.07654): 2^b equidistant levels per row, or per group of
 * consecutive columns of a row, with a zero point that need not be a level. `src/format/weight-grid.ts` says how they are stored.
 */
import type { WeightBits } from '../format/scheme';
import {
  gridStep,
  gridWord,
  gridZero,
  groupCount,
  levelDistance,
  maxZero,
  packLevels,
  storableStep,
  unpackCodes,
} from '../format/weight-grid';
import { clamp, type Matrix } from './matrix';
import { meanSquares, type QuantizedMatrix, scaleIndex, type WeightQuantizer } from './rtn';

export interface AsymmetricGrid {
  readonly bits: WeightBits;
  /** Columns that share a step and a zero point, a multiple of 32; null: a whole row. */
  readonly groupSize: number | null;
}

/** The grid of one matrix. */
export interface MatrixGrid extends AsymmetricGrid {
  readonly zeros: Uint8Array; // [N, G]
}

/** One group's levels: the value of level u is step·(levelDistance·u − zero). */
export interface GroupLevels {
  readonly step: number;
  readonly zero: number;
}

/** Parts of the range from the smallest to the largest weight that a search starts from. */
const rangeParts = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4];
/** Times that step and zero point are fitted to the levels chosen with the last ones. */
const refits = 3;

/** The code of the level nearest to `value`. */
export function nearestCode(value: number, { step, zero }: GroupLevels, bits: WeightBits): number {
  const distance = levelDistance(bits);
  const level = clamp(Math.round((value / step + zero) / distance), 0, 2 ** bits - 1);
  return distance * level - zero;
}

/** Levels as a grid word can hold them. */
function storable(step: number, zero: number): GroupLevels {
  return { step: storableStep(step), zero: clamp(Math.round(zero), 0, maxZero) };
}

/** Σ c·(w − ŵ)² on the levels, and the line w ≈ slope·u + start of least squared error through the levels chosen. */
function fitLine(
  values: ArrayLike<number>,
  columnWeights: ArrayLike<number> | null,
  levels: GroupLevels,
  bits: WeightBits,
) {
  const distance = levelDistance(bits);
  let [error, c, cu, cuu, cw, cwu] = [0, 0, 0, 0, 0, 0];
  for (let k = 0; k < values.length; k++) {
    const value = values[k]!;
    const code = nearestCode(value, levels, bits);
    const u = (code + levels.zero) / distance;
    const weight = columnWeights ? columnWeights[k]! : 1;
    error += weight * (value - levels.step * code) ** 2;
    c += weight;
    cu += weight * u;
    cuu += weight * u * u;
    cw += weight * value;
    cwu += weight * value * u;
  }
  const slope = (c * cwu - cu * cw) / (c * cuu - cu * cu);
  return { error, slope, start: (cw - slope * cu) / c };
}

/**
 * Levels of least weighted squared error for a group: from parts of its range, alternating between the nearest levels and
 * the line through them. A group of zeros gets step 1.
 */
export function fitLevels(
  values: ArrayLike<number>,
  columnWeights: ArrayLike<number> | null,
  bits: WeightBits,
): GroupLevels {
  let [low, high] = [0, 0];
  for (let k = 0; k < values.length; k++) {
    low = Math.min(low, values[k]!);
    high = Math.max(high, values[k]!);
  }
  const distance = levelDistance(bits);
  const widest = (high - low) / (distance * (2 ** bits - 1));
  let best: GroupLevels = { step: 1, zero: 0 };
  if (!(Math.fround(widest) > 1e-36)) return best;
  let least = Number.POSITIVE_INFINITY;
  for (const part of rangeParts) {
    let levels = storable(widest * part, -low / widest);
    for (let round = 0; round <= refits; round++) {
      const { error, slope, start } = fitLine(values, columnWeights, levels, bits);
      if (error < least) {
        least = error;
        best = levels;
      }
      const step = slope / distance;
      if (!(Math.fround(step) > 1e-36 && Number.isFinite(start))) break;
      levels = storable(step, -start / step);
    }
  }
  return best;
}

/** Rounds to the nearest level; levels of least squared error, weighted by the inputs' mean squares when given. */
export function asymmetricNearest(grid: AsymmetricGrid): WeightQuantizer {
  const { bits } = grid;
  return (weights, problem) => {
    const { rows, cols, data } = weights;
    const columnWeights = problem && meanSquares(problem.sample);
    const out = emptyOnGrid(weights, grid);
    const groups = out.scales.length / rows;
    const size = grid.groupSize ?? cols;
    for (let i = 0; i < out.scales.length; i++) {
      const from = (i % groups) * size;
      const row = Math.floor(i / groups) * cols;
      const to = Math.min(cols, from + size);
      const levels = fitLevels(
        data.subarray(row + from, row + to),
        columnWeights?.subarray(from, to) ?? null,
        bits,
      );
      out.scales[i] = levels.step;
      out.grid.zeros[i] = levels.zero;
      for (let k = row + from; k < row + to; k++) out.codes[k] = nearestCode(data[k]!, levels, bits);
    }
    return out;
  };
}

/** A matrix of codes to be filled. */
export function emptyOnGrid(
  { rows, cols }: Matrix,
  grid: AsymmetricGrid,
): QuantizedMatrix & { readonly grid: MatrixGrid } {
  const groups = rows * groupCount(grid, cols);
  return {
    ...{ rows, cols, codes: new Int8Array(rows * cols), scales: new Float32Array(groups) },
    grid: { ...grid, zeros: new Uint8Array(groups) },
  };
}

/** The words that the artifact stores. @throws FormatError for steps or zero points that are none */
export function packOnGrid(matrix: QuantizedMatrix, { bits, zeros }: MatrixGrid) {
  const { rows, cols, codes, scales } = matrix;
  const distance = levelDistance(bits);
  const levels = Uint8Array.from(codes, (code, i) => (code + zeros[scaleIndex(matrix, i)]!) / distance);
  return {
    weight: packLevels(levels, bits, rows, cols),
    grid: Uint32Array.from(scales, (step, i) => gridWord(step, zeros[i]!)),
  };
}

/** Inverse of {@link packOnGrid}. */
export function unpackOnGrid(
  weight: Uint32Array,
  words: Uint32Array,
  grid: AsymmetricGrid,
  rows: number,
): QuantizedMatrix & { readonly grid: MatrixGrid } {
  const codes = unpackCodes(weight, words, grid, grid.bits, rows);
  return {
    ...{ rows, cols: codes.length / rows, codes },
    scales: Float32Array.from(words, gridStep),
    grid: { ...grid, zeros: Uint8Array.from(words, gridZero) },
  };
}
