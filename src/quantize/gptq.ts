/**
 * GPTQ (arXiv 2210.17323) on the migrated, gathered, integer-activation problem: per output row w, codes q and a scale s that
 * minimize ‖(w·X − s·q·X̃)‖², X̃ the dequantized integers of every calibration token.
 *
 * Written in triangular form: with H = 2·X̃X̃ᵀ + λI = U·Uᵀ, U upper triangular, the loss is ‖t − s·q·U‖² plus a constant, where
 * t = w·U. Component j of q·U reads q_0 … q_j only, so rounding q_j to the nearest value one after the other is exactly what
 * GPTQ's updates through the Cholesky factor of H⁻¹ do, without an inverse. The factor 2 cancels and is left out.
 */
import { type AsymmetricGrid, emptyOnGrid } from './asymmetric';
import { choleskyLower, NotPositiveDefiniteError } from './cholesky';
import { roundRowOnGrid } from './gptq-grid';
import type { LinearProblem } from './linear-problem';
import { clamp, intRange, type Matrix } from './matrix';
import { crossGram, multiplyTransposed } from './products';
import { bestRowScale, dequantize, type QuantizedMatrix, type WeightQuantizer } from './rtn';
import { dot, type Factor } from './triangular';

export interface GptqOptions {
  /** λ as a part of the Hessian's mean diagonal. */
  readonly damping: number;
  /** Columns by falling Hessian diagonal instead of as they come. */
  readonly order: boolean;
  /**
   * `weights`: the float weight on the rounded inputs, as published. `outputs`: the float layer's output on the float
   * model's inputs, so that codes also answer for the inputs' rounding.
   */
  readonly target: 'weights' | 'outputs';
  /** Asymmetric levels; null: codes −8 … 7 and one scale a row. */
  readonly grid: AsymmetricGrid | null;
}

export const gptqDefaults: GptqOptions = { damping: 0.01, order: false, target: 'weights', grid: null };

const weightBits = 4;
/** Row scales tried, as parts of the one of least weighted squared error. */
export const scaleTrials = [1, 0.9, 1.1];

/** H = U·Uᵀ from the Cholesky factor of H with rows and columns reversed. @throws NotPositiveDefiniteError */
export function factorHessian(gram: Matrix, options: GptqOptions): Factor {
  const K = gram.rows;
  const diagonal = Float64Array.from({ length: K }, (_, k) => gram.data[k * K + k]!);
  const order = Uint32Array.from({ length: K }, (_, k) => k);
  if (options.order) order.sort((a, b) => diagonal[b]! - diagonal[a]! || a - b);
  const mean = diagonal.reduce((a, b) => a + b, 0) / K;
  const damping = mean > 0 ? options.damping * mean : 1;
  const reversed = new Float64Array(K * K);
  for (let i = 0; i < K; i++) {
    const from = order[K - 1 - i]! * K;
    for (let j = 0; j <= i; j++) reversed[i * K + j] = gram.data[from + order[K - 1 - j]!]!;
    reversed[i * K + i]! += damping;
  }
  choleskyLower(reversed, K);
  const transposed = new Float64Array(K * K);
  for (let j = 0; j < K; j++) {
    for (let i = 0; i <= j; i++) transposed[j * K + i] = reversed[(K - 1 - i) * K + (K - 1 - j)]!;
  }
  return { order, transposed, diagonal: diagonal.map((_, k) => diagonal[order[k]!]!) };
}

/** t = w·U: component j is Σ_{i≤j} w_i·U_ij. */
function weightTargets(row: Float64Array, { transposed }: Factor, out: Float64Array): void {
  const K = row.length;
  for (let j = 0; j < K; j++) out[j] = dot(row, transposed, j * K, j + 1);
}

/** Solves t·Uᵀ = r for t: the targets of the float outputs, r = w·X·X̃ᵀ + λw. */
function solveTargets(r: Float64Array, { transposed }: Factor, out: Float64Array): void {
  const K = r.length;
  out.set(r);
  for (let j = K - 1; j >= 0; j--) {
    const value = out[j]! / transposed[j * K + j]!;
    out[j] = value;
    for (let i = 0, at = j * K; i < j; i++, at++) out[i]! -= value * transposed[at]!;
  }
}

interface RowCodes {
  readonly codes: Float64Array;
  readonly scale: number;
  readonly loss: number;
}

/** Rounds one row at one scale; then the scale that fits the codes best: s = ⟨t, qU⟩ / ‖qU‖². */
export function roundRow(targets: Float64Array, factor: Factor, scale: number): RowCodes {
  const K = targets.length;
  const { min, max } = intRange(weightBits);
  const { transposed } = factor;
  const codes = new Float64Array(K);
  let cross = 0;
  let squares = 0;
  let norm = 0;
  for (let j = 0; j < K; j++) {
    const before = dot(codes, transposed, j * K, j);
    const pivot = transposed[j * K + j]!;
    const code =
      factor.diagonal[j]! > 0 ? clamp(Math.round((targets[j]! / scale - before) / pivot), min, max) : 0;
    codes[j] = code;
    const component = before + code * pivot;
    cross += targets[j]! * component;
    squares += component * component;
    norm += targets[j]! ** 2;
  }
  const fitted = cross > 0 && squares > 0 ? Math.fround(cross / squares) : scale;
  return { codes, scale: fitted, loss: norm - 2 * fitted * cross + fitted * fitted * squares };
}

/** Per row r = w·C + λw with C = X·X̃ᵀ, in the factor's order; null when the targets are the weights themselves. */
async function crossTargets(weights: Matrix, cross: Matrix | null, gram: Matrix, options: GptqOptions) {
  if (!cross) return null;
  const K = gram.rows;
  const mean = gram.data.reduce((sum, value, i) => (i % (K + 1) === 0 ? sum + value : sum), 0) / K;
  const product = await multiplyTransposed(weights, cross);
  for (let i = 0; i < product.data.length; i++) product.data[i]! += options.damping * mean * weights.data[i]!;
  return product;
}

/** Each row's targets t in the factor's order; the array is used again for the next row. */
function* rowTargets(weights: Matrix, wanted: Matrix | null, factor: Factor): Generator<Float64Array> {
  const { rows, cols: K } = weights;
  const inOrder = new Float64Array(K);
  const targets = new Float64Array(K);
  const source = wanted ?? weights;
  for (let n = 0; n < rows; n++) {
    for (let k = 0; k < K; k++) inOrder[k] = source.data[n * K + factor.order[k]!]!;
    (wanted ? solveTargets : weightTargets)(inOrder, factor, targets);
    yield targets;
  }
}

/** All rows against one factored Hessian, on asymmetric levels. */
function roundRowsOnGrid(
  weights: Matrix,
  rowsTargets: Iterable<Float64Array>,
  factor: Factor,
  grid: AsymmetricGrid,
): QuantizedMatrix {
  const K = weights.cols;
  const out = emptyOnGrid(weights, grid);
  let row = 0;
  let group = 0;
  for (const targets of rowsTargets) {
    const { codes, levels } = roundRowOnGrid(targets, factor, grid);
    for (let k = 0; k < K; k++) out.codes[row * K + factor.order[k]!] = codes[k]!;
    for (const { step, zero } of levels) {
      out.scales[group] = step;
      out.grid.zeros[group] = zero;
      group++;
    }
    row++;
  }
  return out;
}

/** All rows against one factored Hessian. */
function roundRows(weights: Matrix, rowsTargets: Iterable<Float64Array>, factor: Factor): QuantizedMatrix {
  const { rows, cols: K } = weights;
  const codes = new Int8Array(rows * K);
  const scales = new Float32Array(rows);
  const weighting = Float32Array.from(factor.diagonal);
  let n = 0;
  for (const targets of rowsTargets) {
    const start = bestRowScale(
      Float32Array.from(factor.order, (k) => weights.data[n * K + k]!),
      weighting,
    );
    let best: RowCodes | null = null;
    for (const part of scaleTrials) {
      const tried = roundRow(targets, factor, start * part);
      if (!best || tried.loss < best.loss) best = tried;
    }
    scales[n] = best!.scale;
    for (let k = 0; k < K; k++) codes[n * K + factor.order[k]!] = best!.codes[k]!;
    n++;
  }
  return { rows, cols: K, codes, scales };
}

/** GPTQ against Gram matrices made beforehand: G = X̃ᵀX̃ [K', K'], and C with C_jk = Σ_t X̃_tj·X_tk for `outputs`. */
export async function gptqRound(
  weights: Matrix,
  gram: Matrix,
  cross: Matrix | null,
  options: GptqOptions = gptqDefaults,
): Promise<QuantizedMatrix> {
  const factor = factorHessian(gram, options);
  const targets = rowTargets(weights, await crossTargets(weights, cross, gram, options), factor);
  return options.grid
    ? roundRowsOnGrid(weights, targets, factor, options.grid)
    : roundRows(weights, targets, factor);
}

/** A weight quantizer that gathers the Hessian over every calibration token. */
export function gptqQuantizer(options: GptqOptions): WeightQuantizer {
  return async (weights, problem) => {
    if (!problem)
      throw new GptqInputError('GPTQ weighs its errors by calibration tokens: give --calibration');
    const { gram, cross } = await gramMatrices(problem, options.target === 'outputs');
    try {
      return await gptqRound(weights, gram, cross, options);
    } catch (error) {
      if (!(error instanceof NotPositiveDefiniteError)) throw error;
      throw new GptqInputError(
        `the Hessian of ${gram.rows} inputs is not positive definite: ${error.message}`,
      );
    }
  };
}

/** GPTQ cannot run on what it was given. */
export class GptqInputError extends Error {
  override readonly name = 'GptqInputError';
}

function gramMatrices(problem: LinearProblem, withCross: boolean) {
  return crossGram(problem.batches(), withCross);
}

/** The output error tr((W − Ŵ)·G·(W − Ŵ)ᵀ) of quantized weights. */
export function outputError(weights: Matrix, quantized: QuantizedMatrix, gram: Matrix): number {
  const K = weights.cols;
  let total = 0;
  const e = new Float64Array(K);
  const { data: rounded } = dequantize(quantized);
  for (let n = 0; n < weights.rows; n++) {
    for (let k = 0; k < K; k++) e[k] = weights.data[n * K + k]! - rounded[n * K + k]!;
    for (let i = 0; i < K; i++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += gram.data[i * K + k]! * e[k]!;
      total += e[i]! * sum;
    }
  }
  return total;
}
