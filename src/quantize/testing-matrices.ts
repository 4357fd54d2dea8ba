/** Seeded matrices for tests of the method's arithmetic. */

import { normalNumbers, seededRandom } from '../format/random';
import { type Matrix, matrix } from './matrix';

/** Standard normal. */
export function randomMatrix(rows: number, cols: number, seed: number): Matrix {
  const normal = normalNumbers(seededRandom(seed));
  return matrix(
    rows,
    cols,
    Float32Array.from({ length: rows * cols }, () => normal()),
  );
}

/** Integers in [−8, 7] whose channels share a part. */
export function correlatedIntegers(rows: number, cols: number, seed: number): Matrix {
  const noise = randomMatrix(rows, cols, seed);
  const shared = randomMatrix(rows, 1, seed + 1);
  const value = (v: number, i: number) => 2 * v + 2 * shared.data[Math.floor(i / cols)]!;
  const data = noise.data.map((v, i) => Math.max(-8, Math.min(7, Math.round(value(v, i)))));
  return matrix(rows, cols, data);
}
