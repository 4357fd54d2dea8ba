/** Activations of a whole calibration pass, batch by batch, in memory or spilled to a file. Node only. */
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Matrix, matrix } from './matrix';

/** A folder of its own for one run's activations, in `spill`, which is made where it is missing; null without one. */
export function spillFolder(spill: string | null): string | null {
  if (spill === null) return null;
  mkdirSync(spill, { recursive: true });
  return mkdtempSync(join(spill, 'activations-'));
}

/** A sequence of batches [t, cols] that can be read any number of times. */
export class RowStore implements Iterable<Matrix> {
  readonly #batches: Matrix[] = [];
  readonly #rows: number[] = [];
  readonly #file: number | null;

  /** @param path a file that `dispose` removes, or null to stay in memory */
  constructor(
    readonly cols: number,
    readonly path: string | null = null,
  ) {
    this.#file = path === null ? null : openSync(path, 'w+');
  }

  append(rows: Matrix): void {
    if (rows.cols !== this.cols) throw new RangeError(`rows of ${this.cols} channels, got ${rows.cols}`);
    this.#rows.push(rows.rows);
    if (this.#file === null) this.#batches.push(rows);
    else writeSync(this.#file, new Uint8Array(rows.data.buffer, rows.data.byteOffset, rows.data.byteLength));
  }

  *[Symbol.iterator](): Iterator<Matrix> {
    if (this.#file === null) {
      yield* this.#batches;
      return;
    }
    let at = 0;
    for (const count of this.#rows) {
      const batch = matrix(count, this.cols);
      readSync(this.#file, new Uint8Array(batch.data.buffer), 0, batch.data.byteLength, at);
      at += batch.data.byteLength;
      yield batch;
    }
  }

  /** Frees the batches and removes the file. */
  dispose(): void {
    this.#batches.length = 0;
    if (this.#file === null) return;
    closeSync(this.#file);
    rmSync(this.path!, { force: true });
  }
}
