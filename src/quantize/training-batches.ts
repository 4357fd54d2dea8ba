/** Calibration sequences as batches of rows on the array library. */
import { numpy as np } from '@jax-js/jax';
import type { LlamaConfig } from '../format/config';
import { ropeTable } from './forward';
import type { Matrix } from './matrix';
import {
  gatherRow,
  packSequences,
  rowAngles,
  rowPrefix,
  rowStarts,
  rowWeights,
  type TokenRow,
} from './token-rows';
import type { Batch } from './trainable-block';

function concatenate(parts: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const out = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Steps of an epoch that `auto` leaves: with 4 of them the first layers end worse than they began. */
const autoSteps = 16;
const mostAutoRows = 4;

/** Rows in one step, at most 4, and 1 where there are few: many small steps serve better than a few large ones (docs/LOG.md). */
export function autoBatchRows(rows: number): number {
  return Math.min(mostAutoRows, Math.max(1, Math.floor(rows / autoSteps)));
}

/**
 * Rows as long as the longest sequence, `rowsPerBatch` of them a batch; the last batch is filled with empty rows.
 * @param prefixTokens first tokens of every sequence that are float prefix tokens: no loss is taken there
 */
export function makeBatches(
  inputs: readonly Matrix[],
  targets: readonly Matrix[],
  config: LlamaConfig,
  rowsPerBatch: number | 'auto',
  prefixTokens = 0,
): Batch[] {
  const lengths = inputs.map(({ rows }) => rows);
  const rowTokens = Math.max(...lengths);
  const rows = packSequences(lengths, rowTokens);
  const batchRows = rowsPerBatch === 'auto' ? autoBatchRows(rows.length) : rowsPerBatch;
  while (rows.length % batchRows !== 0) rows.push([]);
  const half = config.headDim / 2;
  const rope = ropeTable(config, rowTokens);
  return Array.from({ length: rows.length / batchRows }, (_, b) => {
    const own = rows.slice(b * batchRows, (b + 1) * batchRows);
    const stack = (of: (row: TokenRow) => Float32Array, shape: number[]) =>
      np.array(concatenate(own.map(of))).reshape(shape);
    const tokens = own.flat().reduce((sum, segment) => sum + segment.tokens - prefixTokens, 0);
    const angles = own.map((row) => rowAngles(row, rowTokens, rope, half));
    const all = batchRows * rowTokens;
    return {
      x: stack((row) => gatherRow(row, inputs, rowTokens).data, [all, config.hiddenSize]),
      target: stack((row) => gatherRow(row, targets, rowTokens).data, [all, config.hiddenSize]),
      weight: stack(
        (row) => rowWeights(row, rowTokens, prefixTokens).map((weight) => weight / tokens),
        [all, 1],
      ),
      starts: stack((row) => rowStarts(row, rowTokens), [batchRows, 1, rowTokens, 1]),
      cos: np.array(concatenate(angles.map(({ cos }) => cos))).reshape([batchRows, rowTokens, 1, half]),
      sin: np.array(concatenate(angles.map(({ sin }) => sin))).reshape([batchRows, rowTokens, 1, half]),
      ...(prefixTokens > 0 && {
        prefix: stack((row) => rowPrefix(row, rowTokens, prefixTokens), [all, prefixTokens]),
      }),
    };
  });
}
