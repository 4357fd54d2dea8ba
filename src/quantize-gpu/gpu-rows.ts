/** Activations of the calibration tokens, a batch per sequence: on the GPU, and spilled to memory or files beyond a budget. */
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceRows } from '../quantize/calibrate';
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
