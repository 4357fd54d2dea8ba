/** What a linear's quantized weight is fitted to: the inputs it will see, and the float inputs it should answer to. */
import type { ActBits } from '../format/scheme';
import type { KeptRows } from './calibrate';
import { hostRows } from './layer-device';
import type { Matrix } from './matrix';
import { matrix } from './matrix';
import { scaleColumns, siteIntegers, tokenIntegers } from './migrate';
import type { Reconstruction } from './reconstruct';

/** One batch, both [t, K'] in units of the migrated weight's columns: y = W'·target is the float output. */
export interface ProblemBatch {
  /** X̃, what the integers stand for. */
  readonly quantized: Matrix;
  /** X of the float model. */
  readonly target: Matrix;
}

export interface LinearProblem {
  /** Rows that weight the row scales' error: integers, or float rows where a token has its own scale. */
  readonly sample: Matrix;
  /** Every calibration token. @throws DeviceRowsError where those are not on the host */
  readonly batches: () => Iterable<ProblemBatch>;
  /** What `batches` is made from, for a device that makes its own. */
  readonly source?: ProblemSource;
}

/** How a site's rows become X̃ and X; see {@link mergedProblem} and {@link plainProblem}. */
export interface ProblemSource {
  readonly site: SiteRows;
  readonly actBits: ActBits;
  readonly roundInputs: boolean;
  readonly inputs:
    | { readonly kind: 'merged'; readonly columns: Reconstruction }
    | {
        readonly kind: 'plain';
        readonly steps: Float32Array | null;
        readonly ratio: number;
        readonly width: number;
      };
}

/** Batches of a site's values before its quantizer, and the float model's at the same tokens. */
export interface SiteRows {
  readonly rows: KeptRows;
  readonly targets: KeptRows;
}

function* pairs(site: SiteRows, map: (rows: Matrix, targets: Matrix) => ProblemBatch) {
  const targets = hostRows(site.targets)[Symbol.iterator]();
  for (const rows of hostRows(site.rows)) yield map(rows, targets.next().value as Matrix);
}

/** A channel's pieces added up again [K]. */
export function wholeScales({ gather, pieces }: Reconstruction, channels: number): Float64Array {
  const whole = new Float64Array(channels);
  gather.forEach((channel, j) => {
    whole[channel]! += pieces[j]!;
  });
  return whole;
}

/** Behind a merged norm: integers in units of the migrated columns; the pieces of a channel share its float value, zero points included. */
export function mergedProblem(
  sample: Matrix,
  site: SiteRows,
  columns: Reconstruction,
  actBits: ActBits,
  roundInputs = true,
): LinearProblem {
  const { gather, pieces, offsets, centered = false } = columns;
  const whole = wholeScales(columns, sample.cols);
  const targetOf = (rows: Matrix) => {
    const out = matrix(rows.rows, gather.length);
    for (let t = 0; t < rows.rows; t++) {
      for (let j = 0; j < gather.length; j++) {
        if (pieces[j]! > 0) {
          const value = rows.data[t * rows.cols + gather[j]!]! / whole[gather[j]!]!;
          out.data[t * gather.length + j] = value + (centered ? offsets![j]! : 0);
        }
      }
    }
    return out;
  };
  return {
    sample: siteIntegers(sample, columns, actBits),
    batches: () =>
      pairs(site, (rows, targets) => ({
        quantized: roundInputs ? siteIntegers(rows, columns, actBits) : targetOf(rows),
        target: targetOf(targets),
      })),
    source: { site, actBits, roundInputs, inputs: { kind: 'merged', columns } },
  };
}

/** Integers times their token's scale: what a dynamic quantizer makes of `rows`. */
export function roundedTokens(rows: Matrix, ratio: number, actBits: ActBits): Matrix {
  const { integers, scales } = tokenIntegers(rows, ratio, actBits);
  for (let i = 0; i < integers.data.length; i++) integers.data[i]! *= scales[Math.floor(i / rows.cols)]!;
  return integers;
}

/**
 * In front of o, down or behind a float norm. @param steps the columns' static steps, folded into the weight, or null for
 * per-token scales of clip ratio `ratio`. @param width K'
 */
export function plainProblem(
  sample: Matrix,
  site: SiteRows,
  steps: Float32Array | null,
  ratio: number,
  width: number,
  actBits: ActBits,
  roundInputs = true,
): LinearProblem {
  const inverse = steps?.map((step) => (step > 0 ? 1 / step : 0)) ?? null;
  const inUnits = (rows: Matrix) => scaleColumns(rows, inverse, width);
  const columns: Reconstruction | null = steps && {
    gather: Uint32Array.from({ length: width }, (_, k) => (k < steps.length ? k : 0)),
    steps: Float32Array.from({ length: width }, (_, k) => steps[k] ?? 0),
    pieces: steps,
    offsets: null,
  };
  const round = (rows: Matrix) => {
    if (!roundInputs) return inUnits(rows);
    return columns ? siteIntegers(rows, columns, actBits) : roundedTokens(inUnits(rows), ratio, actBits);
  };
  return {
    sample: inUnits(sample),
    batches: () => pairs(site, (rows, targets) => ({ quantized: round(rows), target: inUnits(targets) })),
    source: { site, actBits, roundInputs, inputs: { kind: 'plain', steps, ratio, width } },
  };
}
