/** Activations of the calibration tokens, a batch per sequence: on the GPU, and spilled to memory or files beyond a budget. */
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceRows } from '../quantize/calibrate';
import { type Matrix, matrix } from '../quantize/matrix';
import type { RowsBuffer } from './elementwise';
import type { GpuWork } from './gpu-work';

/** What all rows of a run share. */
export class ActivationBudget {
  #used = 0;
  #files = 0;
  #spilledBytes = 0;

  /** @param residentBytes of activations that stay on the GPU. @param folder for files with the rest; null: host memory */
  constructor(
    readonly residentBytes: number,
    readonly folder: string | null,
  ) {}

  /** Whether so many bytes more may stay on the GPU; they are then counted. */
  take(bytes: number): boolean {
    if (this.#used + bytes > this.residentBytes) return false;
    this.#used += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#used -= bytes;
  }

  /** A new file's path, or null where the rest stays in host memory. */
  nextPath(): string | null {
    return this.folder && join(this.folder, `${this.#files++}.f32`);
  }

  countSpilled(bytes: number): void {
    this.#spilledBytes += bytes;
  }

  /** Bytes that ever left the GPU. */
  get spilledBytes(): number {
    return this.#spilledBytes;
  }
}

/** One batch off the GPU. */
class SpilledBatch {
  readonly #path: string | null;
  readonly #file: number | null;
  #values: Float32Array | null = null;

  constructor(budget: ActivationBudget) {
    this.#path = budget.nextPath();
    this.#file = this.#path === null ? null : openSync(this.#path, 'w+');
  }

  store(values: Float32Array): void {
    if (this.#file === null) this.#values = values;
    else
      writeSync(this.#file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 0, null, 0);
  }

  load(count: number): Float32Array {
    if (this.#values) return this.#values;
    const values = new Float32Array(count);
    readSync(this.#file!, new Uint8Array(values.buffer), 0, values.byteLength, 0);
    return values;
  }

  dispose(): void {
    this.#values = null;
    if (this.#file === null) return;
    closeSync(this.#file);
    rmSync(this.#path!, { force: true });
  }
}

/** Tokens that may be under way on the GPU before the host waits: their commands take memory. */
const tokensUnderWay = 8192;
/** Floats of one read-back of several batches: 64 MiB. */
const readFloats = 16 * 2 ** 20;

interface Batch {
  readonly rows: number;
  readonly place: GPUBuffer | SpilledBatch;
}

export class GpuRows implements DeviceRows {
  readonly onDevice = true;
  readonly #batches: Batch[] = [];

  constructor(
    readonly work: GpuWork,
    readonly budget: ActivationBudget,
    readonly cols: number,
  ) {}

  get length(): number {
    return this.#batches.length;
  }

  /** Tokens of batch `i`. */
  rowsOf(i: number): number {
    return this.#batches[i]!.rows;
  }

  get longest(): number {
    return this.#batches.reduce((most, { rows }) => Math.max(most, rows), 0);
  }

  /** Appends the first `rows` rows of a buffer. */
  async append(source: GPUBuffer, rows: number): Promise<void> {
    const { work, budget, cols } = this;
    const resident = budget.take(4 * rows * cols);
    const place = resident ? work.create('activations', rows * cols) : new SpilledBatch(budget);
    this.#batches.push({ rows, place });
    await this.set(this.#batches.length - 1, source);
  }

  /** Replaces batch `i` by a buffer's first rows. */
  async set(i: number, source: GPUBuffer): Promise<void> {
    const { rows, place } = this.#batches[i]!;
    const count = rows * this.cols;
    if (!(place instanceof SpilledBatch)) {
      if (place !== source) this.work.copy(source, 0, place, 0, count);
      return;
    }
    place.store(await this.work.readFloats(source, count));
    this.budget.countSpilled(4 * count);
  }

  /** Appends or replaces. */
  async put(i: number, source: GPUBuffer, rows: number): Promise<void> {
    if (i < this.length) await this.set(i, source);
    else await this.append(source, rows);
  }

  /** Batch `i` in a buffer: its own, or a scratch buffer named `as` that it was loaded into. */
  use(i: number, as: string): RowsBuffer {
    const { rows, place } = this.#batches[i]!;
    const { cols, work } = this;
    if (!(place instanceof SpilledBatch)) return { buffer: place, rows, cols };
    const buffer = work.scratch(as, rows * cols);
    work.write(buffer, place.load(rows * cols));
    return { buffer, rows, cols };
  }

  /**
   * Calls `each` with every batch's number in order and submits what it records; waits for the GPU now and then, not between
   * two short sequences, and at the end.
   */
  async walk(each: (i: number) => Promise<void>): Promise<void> {
    let tokens = 0;
    for (let i = 0; i < this.length; i++) {
      await each(i);
      this.work.submit();
      tokens += this.rowsOf(i);
      if (tokens < tokensUnderWay) continue;
      await this.work.settle();
      tokens = 0;
    }
    await this.work.settle();
  }

  /** Batches on the host, many in one read-back of at most `mostFloats` (or one batch): each costs a round trip. */
  async read(numbers: readonly number[], mostFloats = readFloats): Promise<readonly Matrix[]> {
    const out: Matrix[] = [];
    let group: number[] = [];
    let floats = 0;
    for (const i of numbers) {
      if (group.length > 0 && floats + this.#floats(i) > mostFloats) {
        out.push(...(await this.#readTogether(group, floats)));
        group = [];
        floats = 0;
      }
      group.push(i);
      floats += this.#floats(i);
    }
    return group.length === 0 ? out : [...out, ...(await this.#readTogether(group, floats))];
  }

  async #readTogether(numbers: readonly number[], floats: number): Promise<Matrix[]> {
    const { work, cols } = this;
    const together = work.scratch('rows.read', floats);
    let end = 0;
    for (const i of numbers) {
      work.copy(this.use(i, 'rows.spilled').buffer, 0, together, end, this.#floats(i));
      end += this.#floats(i);
    }
    const values = await work.readFloats(together, floats);
    let at = 0;
    return numbers.map((i) => {
      const from = at;
      at += this.#floats(i);
      return matrix(this.rowsOf(i), cols, values.slice(from, at));
    });
  }

  #floats(i: number): number {
    return this.rowsOf(i) * this.cols;
  }

  dispose(): void {
    const resident: GPUBuffer[] = [];
    for (const { place } of this.#batches.splice(0)) {
      if (place instanceof SpilledBatch) place.dispose();
      else resident.push(place);
    }
    this.budget.give(resident.length === 0 ? 0 : resident.reduce((sum, { size }) => sum + size, 0));
    this.work.free(...resident);
  }
}
