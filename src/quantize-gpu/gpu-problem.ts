/** What a linear's weight is fitted to, on the GPU: X̃ and X of src/quantize/linear-problem.ts and their Gram matrices. */
import type { ActBits } from '../format/scheme';
import type { KeptRows } from '../quantize/calibrate';
import { GptqInputError } from '../quantize/gptq';
import { type LinearProblem, type ProblemSource, wholeScales } from '../quantize/linear-problem';
import {
  type ColumnMap,
  columnMap,
  freeColumnMap,
  mapColumns,
  type RowsBuffer,
  roundTokens,
} from './elementwise';
import { gemm } from './gemm';
import { GpuRows } from './gpu-rows';
import type { GpuWork } from './gpu-work';

/** Writes [t, K'] into a buffer. */
export interface RowRounder {
  readonly width: number;
  apply(x: RowsBuffer, y: GPUBuffer): Promise<void>;
  dispose(): void;
}

function mapping(work: GpuWork, map: ColumnMap): RowRounder {
  return {
    width: map.width,
    apply: (x, y) => mapColumns(work, x, map, y),
    dispose: () => freeColumnMap(work, map),
  };
}

/** Per-token rounding at clip ratio `ratio`. */
export function tokenRounder(work: GpuWork, ratio: number, bits: ActBits, width: number): RowRounder {
  return { width, apply: (x, y) => roundTokens(work, x, ratio, bits, width, y), dispose: () => {} };
}

/** Columns times `scale` (or divided by it), made integers where `bits` says so; columns from `cols` on are 0. */
export function columnRounder(
  work: GpuWork,
  cols: number,
  width: number,
  scale: (k: number) => number,
  divide: boolean,
  bits: ActBits | null,
): RowRounder {
  const scales = Float32Array.from({ length: width }, (_, k) => (k < cols ? scale(k) : 0));
  const gather = Uint32Array.from({ length: width }, (_, k) => (k < cols ? k : 0));
  return mapping(work, columnMap(work, scales, { gather, divide, bits }));
}

/** Values as they are, with zero columns up to `width`. */
export function padding(work: GpuWork, cols: number, width: number): RowRounder {
  return columnRounder(work, cols, width, () => 1, false, null);
}

/** Gathered columns, see {@link ColumnMap}. */
export function gatherRounder(
  work: GpuWork,
  scale: Float32Array,
  gather: Uint32Array,
  offset: ArrayLike<number> | null,
  divide: boolean,
  bits: ActBits | null,
  shifted = false,
): RowRounder {
  return mapping(work, columnMap(work, scale, { gather, offset, divide, bits, shifted }));
}

/** X̃ and X from a site's rows of `cols` channels. */
function rounders(work: GpuWork, { inputs, actBits, roundInputs }: ProblemSource, cols: number) {
  if (inputs.kind === 'merged') {
    const { columns } = inputs;
    const { gather, pieces, steps, offsets, centered = false } = columns;
    const whole = wholeScales(columns, cols);
    const inverse = pieces.map((piece, j) => (piece > 0 ? whole[gather[j]!]! : 0));
    const shift = centered ? offsets : null;
    const target = () => gatherRounder(work, inverse, gather, shift, true, null, centered);
    const rounded = () => gatherRounder(work, steps, gather, offsets, true, actBits);
    return { quantized: roundInputs ? rounded() : target(), target: target() };
  }
  const { steps, ratio, width } = inputs;
  const inverse = (k: number) => (steps ? (steps[k]! > 0 ? 1 / steps[k]! : 0) : 1);
  const target = () => columnRounder(work, cols, width, inverse, false, null);
  if (!roundInputs) return { quantized: target(), target: target() };
  const quantized = steps
    ? columnRounder(work, cols, width, (k) => steps[k]!, true, actBits)
    : tokenRounder(work, ratio, actBits, width);
  return { quantized, target: target() };
}

/** Batches of kept rows in buffers, wherever they lie. */
function* batchesOf(work: GpuWork, rows: KeptRows, as: string): Generator<RowsBuffer> {
  if (rows instanceof GpuRows) {
    for (let i = 0; i < rows.length; i++) yield rows.use(i, as);
    return;
  }
  if (!(Symbol.iterator in rows)) throw new GptqInputError('activations are kept on another device');
  for (const batch of rows) {
    const buffer = work.scratch(as, batch.data.length);
    work.write(buffer, batch.data);
    yield { buffer, rows: batch.rows, cols: batch.cols };
  }
}

/** G = Σ X̃ᵀX̃ [K', K'] (lower triangle) and, when asked, C_jk = Σ X̃_tj·X_tk [K', K']; the caller frees both. */
export interface Grams {
  readonly gram: GPUBuffer;
  readonly cross: GPUBuffer | null;
  readonly width: number;
}

/** Adds aᵀ·b over `rows` tokens to `sum` [width, width]. */
function addProduct(
  work: GpuWork,
  a: GPUBuffer,
  b: GPUBuffer,
  rows: number,
  width: number,
  sum: GPUBuffer,
  lower: boolean,
): Promise<void> {
  const side = (buffer: GPUBuffer) => ({ buffer, stride: width, transposed: true });
  const c = { buffer: sum, stride: width };
  return gemm(work, { M: width, N: width, K: rows, a: side(a), b: side(b), c, accumulate: true, lower });
}

/** Sums over every calibration token. Integers up to 2²⁴ add up exactly: 4-bit ones of 262,144 tokens do. */
export async function gramsOf(work: GpuWork, problem: LinearProblem, withCross: boolean): Promise<Grams> {
  const { source } = problem;
  if (!source) throw new GptqInputError('the GPU makes its own batches, and this problem has no source');
  const width = problem.sample.cols;
  const gram = work.create('gram', width * width);
  const cross = withCross ? work.create('cross', width * width) : null;
  const targets = batchesOf(work, source.site.targets, 'gram.targets');
  let made: ReturnType<typeof rounders> | null = null;
  for (const rows of batchesOf(work, source.site.rows, 'gram.rows')) {
    made ??= rounders(work, source, rows.cols);
    const x = work.scratch('gram.rounded', rows.rows * width);
    await made.quantized.apply(rows, x);
    await addProduct(work, x, x, rows.rows, width, gram, true);
    if (cross) {
      const y = work.scratch('gram.target', rows.rows * width);
      await made.target.apply(targets.next().value as RowsBuffer, y);
      await addProduct(work, x, y, rows.rows, width, cross, false);
    }
    work.submit();
  }
  await work.settle();
  made?.quantized.dispose();
  made?.target.dispose();
  return { gram, cross, width };
}
