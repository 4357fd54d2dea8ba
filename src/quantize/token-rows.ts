/** Sequences of different lengths packed into rows of one length, so that a compiled step serves every batch. */
import type { RopeTable } from './forward';
import { type Matrix, matrix } from './matrix';

/** Tokens `from` … of a row belong to a sequence, from its position 0. */
export interface Segment {
  readonly sequence: number;
  readonly from: number;
  readonly tokens: number;
}

export type TokenRow = readonly Segment[];

/** First fit, longest first. Every sequence must fit into a row. */
export function packSequences(lengths: readonly number[], rowTokens: number): TokenRow[] {
  const rows: { segments: Segment[]; used: number }[] = [];
  const order = [...lengths.keys()].sort((a, b) => lengths[b]! - lengths[a]! || a - b);
  for (const sequence of order) {
    const tokens = lengths[sequence]!;
    if (tokens > rowTokens) throw new RangeError(`a sequence of ${tokens} tokens in rows of ${rowTokens}`);
    let row = rows.find(({ used }) => used + tokens <= rowTokens);
    if (!row) {
      row = { segments: [], used: 0 };
      rows.push(row);
    }
    row.segments.push({ sequence, from: row.used, tokens });
    row.used += tokens;
  }
  return rows.map(({ segments }) => segments);
}

/** [rowTokens, D] of one row; 0 behind the last segment. */
export function gatherRow(row: TokenRow, sequences: readonly Matrix[], rowTokens: number): Matrix {
  const { cols } = sequences[0]!;
  const out = matrix(rowTokens, cols);
  for (const { sequence, from } of row) out.data.set(sequences[sequence]!.data, from * cols);
  return out;
}

/** The first token that each may look at [rowTokens]: its sequence's; padding looks at itself. */
export function rowStarts(row: TokenRow, rowTokens: number): Float32Array {
  const starts = Float32Array.from({ length: rowTokens }, (_, t) => t);
  for (const { from, tokens } of row) starts.fill(from, from, from + tokens);
  return starts;
}

/** Angles of each token's position in its sequence: cos and sin [rowTokens, Dh/2]. */
export function rowAngles(row: TokenRow, rowTokens: number, rope: RopeTable, half: number): RopeTable {
  const cos = new Float32Array(rowTokens * half);
  const sin = new Float32Array(rowTokens * half);
  for (const { from, tokens } of row) {
    cos.set(rope.cos.subarray(0, tokens * half), from * half);
    sin.set(rope.sin.subarray(0, tokens * half), from * half);
  }
  return { cos, sin };
}

/** 1 for tokens of a sequence behind its prefix, 0 for the prefix and for padding [rowTokens]. */
export function rowWeights(row: TokenRow, rowTokens: number, prefixTokens = 0): Float32Array {
  const weights = new Float32Array(rowTokens);
  for (const { from, tokens } of row) weights.fill(1, from + prefixTokens, from + tokens);
  return weights;
}

/** Which token of the prefix each token is: [rowTokens, prefixTokens], 1 at it, 0 elsewhere. */
export function rowPrefix(row: TokenRow, rowTokens: number, prefixTokens: number): Float32Array {
  const places = new Float32Array(rowTokens * prefixTokens);
  for (const { from } of row) {
    for (let p = 0; p < prefixTokens; p++) places[(from + p) * prefixTokens + p] = 1;
  }
  return places;
}
