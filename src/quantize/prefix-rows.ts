/** Rows of float prefix tokens, see float-prefix.ts. */
import type { Block } from './forward';
import { type Matrix, matrix } from './matrix';

/** Keys and values before their rotation: the last columns of q,k,v for the prefix's tokens [P, 2·Hkv·Dh]. */
export function prefixRows(qkv: Matrix, width: number): Matrix {
  const out = matrix(qkv.rows, width);
  for (let t = 0; t < qkv.rows; t++) {
    out.data.set(qkv.data.subarray((t + 1) * qkv.cols - width, (t + 1) * qkv.cols), t * width);
  }
  return out;
}

/** Puts the prefix's keys and values in the first rows of q,k,v, in place. */
export function putPrefix(qkv: Matrix, { rows, cols, data }: Matrix): Matrix {
  for (let t = 0; t < Math.min(rows, qkv.rows); t++) {
    qkv.data.set(data.subarray(t * cols, (t + 1) * cols), (t + 1) * qkv.cols - cols);
  }
  return qkv;
}

/** Rows behind the prefix. */
export function behindPrefix(rows: Matrix, prefixTokens: number): Matrix {
  if (prefixTokens === 0) return rows;
  return matrix(rows.rows - prefixTokens, rows.cols, rows.data.slice(prefixTokens * rows.cols));
}

/** The block with the prefix's keys and values in place of its own. */
export function withPrefix<B extends Block>(block: B, prefix: Matrix): B {
  return { ...block, qkv: async (input: Matrix) => putPrefix(await block.qkv(input), prefix) };
}
