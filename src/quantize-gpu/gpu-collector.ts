/** One site's statistics on the GPU: `SiteCollector` of the host, on buffers. */
import type { SiteStats } from '../quantize/calibrate';
import { matrix } from '../quantize/matrix';
import { columnMax, type RowsBuffer } from './elementwise';
import type { GpuRows } from './gpu-rows';
import type { GpuWork } from './gpu-work';

/** Batches come in the order of the calibration set. */
export class GpuCollector {
  readonly #most: GPUBuffer;
  readonly #sample: GPUBuffer;
  #base = 0;
  #next = 0;

  /** @param store keeps every row, or null. @param prefixTokens rows at the beginning of each batch that are left out */
  constructor(
    readonly work: GpuWork,
    readonly width: number,
    readonly chosen: Uint32Array,
    readonly store: GpuRows | null,
    readonly prefixTokens = 0,
  ) {
    this.#most = work.create('collector.most', width);
    this.#sample = work.create('collector.sample', chosen.length * width);
  }

  async add(all: RowsBuffer): Promise<void> {
    const { work, width, chosen } = this;
    const rows = this.#behindPrefix(all);
    await columnMax(work, rows, this.#most);
    await this.store?.append(rows.buffer, rows.rows);
    for (; this.#next < chosen.length && chosen[this.#next]! < this.#base + rows.rows; this.#next++) {
      const from = (chosen[this.#next]! - this.#base) * width;
      work.copy(rows.buffer, from, this.#sample, this.#next * width, width);
    }
    this.#base += rows.rows;
  }

  #behindPrefix(all: RowsBuffer): RowsBuffer {
    const { work, width, prefixTokens } = this;
    if (prefixTokens === 0) return all;
    const rows = all.rows - prefixTokens;
    const buffer = work.scratch('collector.rows', rows * width);
    work.copy(all.buffer, prefixTokens * width, buffer, 0, rows * width);
    return { buffer, rows, cols: all.cols };
  }

  /** Reads the statistics and frees what they were gathered in. */
  async stats(): Promise<SiteStats> {
    const { work, width, chosen, store } = this;
    const absMax = await work.readFloats(this.#most, width);
    const sample = await work.readFloats(this.#sample, chosen.length * width);
    work.free(this.#most, this.#sample);
    return {
      absMax,
      sample: matrix(chosen.length, width, sample),
      ...(store && { rows: store }),
    };
  }
}
