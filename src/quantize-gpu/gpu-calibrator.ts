/** Takes the calibration tokens through the layers on the GPU: `LayerCalibrator` and `LayerWalk` of the host, on buffers. */
import { rmSync } from 'node:fs';
import type { LlamaConfig } from '../format/config';
import { seededRandom } from '../format/random';
import { ropeTable } from '../kernels/rope-table';
import { chooseTokens, type LayerStats, sampledTokens, siteWidths } from '../quantize/calibrate';
import type { CalibrationSet } from '../quantize/calibration-data';
import type { Site } from '../quantize/forward';
import type { LayerWeights } from '../quantize/layer';
import type { LayerCalibratorOptions } from '../quantize/layer-calibrator';
import type { CalibratedLayer, Calibrator } from '../quantize/layer-device';
import type { WeightSource } from '../quantize/rotate';
import { spillFolder } from '../quantize/row-store';
import type { Stopwatch } from '../quantize/stopwatch';
import { attend, gateRows, linearRows, rmsNormRows } from './block-steps';
import type { RowsBuffer } from './elementwise';
import { GpuCollector } from './gpu-collector';
import { ActivationBudget, GpuRows } from './gpu-rows';
import { GpuWalk } from './gpu-walk';
import type { GpuWork } from './gpu-work';
import type { WeightCache } from './weight-cache';

/** What the calibrator and its walks work with. */
export interface CalibrationRun {
  readonly work: GpuWork;
  readonly cache: WeightCache;
  readonly budget: ActivationBudget;
  readonly config: LlamaConfig;
  readonly options: LayerCalibratorOptions;
  readonly chosen: Uint32Array;
  readonly rope: GPUBuffer;
  /** A new store of the current layer, which ends with it. */
  readonly newRows: (width: number) => GpuRows;
  readonly watch: Stopwatch;
}

/** The embedded calibration tokens on the GPU. */
async function embed(
  run: Pick<CalibrationRun, 'work' | 'budget'>,
  source: WeightSource,
  set: CalibrationSet,
) {
  const { hiddenSize } = source.config;
  const table = await source.tensor('embed.weight');
  const rows = new GpuRows(run.work, run.budget, hiddenSize);
  for (const ids of set.sequences) {
    const x = new Float32Array(ids.length * hiddenSize);
    ids.forEach((id, t) => {
      x.set(table.subarray(id * hiddenSize, (id + 1) * hiddenSize), t * hiddenSize);
    });
    const buffer = run.work.scratch('embedded', x.length);
    run.work.write(buffer, x);
    await rows.append(buffer, ids.length);
  }
  return rows;
}

export class GpuCalibrator implements Calibrator {
  #stores: GpuRows[] = [];

  private constructor(
    readonly run: CalibrationRun,
    readonly hidden: GpuRows,
    readonly quantized: GpuRows | null,
    readonly folder: string | null,
  ) {}

  /** @param residentBytes of activations that stay on the GPU */
  static async create(
    work: GpuWork,
    cache: WeightCache,
    source: WeightSource,
    set: CalibrationSet,
    options: LayerCalibratorOptions,
    residentBytes: number,
    watch: Stopwatch,
  ): Promise<GpuCalibrator> {
    const { config } = source;
    const folder = spillFolder(options.spill);
    const budget = new ActivationBudget(residentBytes, folder);
    const hidden = await embed({ work, budget }, source, set);
    const quantized = options.propagate === 'quantized' ? await copyOf(hidden) : null;
    const rope = work.upload('rope', ropeTable(config, hidden.longest));
    const { prefixTokens = 0 } = options;
    const tokens = set.tokens - prefixTokens * set.sequences.length;
    const chosen = chooseTokens(tokens, sampledTokens, seededRandom(options.seed + 1));
    const newRows = (width: number) => {
      const store = new GpuRows(work, budget, width);
      calibrator.#stores.push(store);
      return store;
    };
    const run = { work, cache, budget, config, options, chosen, rope, newRows, watch };
    const calibrator = new GpuCalibrator(run, hidden, quantized, folder);
    return calibrator;
  }

  /** Runs the float layer over all sequences; `hidden` becomes its output. */
  async layer(weights: LayerWeights): Promise<CalibratedLayer> {
    this.#release();
    const { run, quantized } = this;
    run.cache.clear();
    await run.watch.time('upload', async () => {
      run.cache.hold(weights);
      await run.work.settle();
    });
    const stats = await this.#floatPass(weights);
    if (!quantized) return { stats, walk: null, stream: null };
    const walk = new GpuWalk(run, weights, stats, quantized, this.hidden);
    return { stats, walk, stream: walk };
  }

  dispose(): void {
    this.#release();
    this.run.cache.clear();
    this.hidden.dispose();
    this.quantized?.dispose();
    this.run.work.free(this.run.rope);
    this.run.work.freeScratch();
    if (this.folder) rmSync(this.folder, { recursive: true, force: true });
  }

  async #floatPass(weights: LayerWeights): Promise<LayerStats> {
    const { config, work, options, chosen, newRows } = this.run;
    const widths = siteWidths(config);
    const collector = (site: Site) => {
      const store = options.keepRows ? newRows(widths[site]) : null;
      return new GpuCollector(work, widths[site], chosen, store, options.prefixTokens);
    };
    const collectors = {
      attn: collector('attn'),
      o: collector('o'),
      mlp: collector('mlp'),
      down: collector('down'),
    };
    await this.hidden.walk(async (i) => {
      const x = this.hidden.use(i, 'hidden');
      await this.#floatBlock(x, weights, (site, rows) => collectors[site].add(rows));
      await this.hidden.set(i, x.buffer);
    });
    return {
      attn: await collectors.attn.stats(),
      o: await collectors.o.stats(),
      mlp: await collectors.mlp.stats(),
      down: await collectors.down.stats(),
    };
  }

  /** One block over one sequence; x is replaced. */
  async #floatBlock(
    x: RowsBuffer,
    weights: LayerWeights,
    observe: (site: Site, rows: RowsBuffer) => Promise<void>,
  ): Promise<void> {
    const { config, work, cache, options, rope } = this.run;
    const { rows: T, cols: D } = x;
    const { o: attendedWidth } = siteWidths(config);
    const scratch = (name: string, cols: number) => ({ buffer: work.scratch(name, T * cols), rows: T, cols });
    const norm = scratch('block.norm', D);
    await rmsNormRows(work, x, cache.get(weights.attnNorm), config.rmsNormEps, norm.buffer);
    await observe('attn', norm);
    const qkv = scratch('block.qkv', weights.qkv.weight.rows);
    await linearRows(work, norm, cache.linear(weights.qkv), qkv.buffer);
    const attended = scratch('block.attended', attendedWidth);
    await attend(work, qkv, config, rope, attended.buffer);
    await observe('o', attended);
    await linearRows(work, attended, cache.linear(weights.o), x.buffer, true);
    await rmsNormRows(work, x, cache.get(weights.mlpNorm), config.rmsNormEps, norm.buffer);
    await observe('mlp', norm);
    const gateUp = scratch('block.gate-up', weights.gateUp.weight.rows);
    await linearRows(work, norm, cache.linear(weights.gateUp), gateUp.buffer);
    const gated = scratch('block.gated', config.intermediateSize);
    await gateRows(work, gateUp, options.hadamard, gated.buffer);
    await observe('down', gated);
    await linearRows(work, gated, cache.linear(weights.down), x.buffer, true);
  }

  #release(): void {
    for (const store of this.#stores) store.dispose();
    this.#stores = [];
  }
}

/** All batches once more. */
export async function copyOf(rows: GpuRows): Promise<GpuRows> {
  const copy = new GpuRows(rows.work, rows.budget, rows.cols);
  for (let i = 0; i < rows.length; i++) {
    const { buffer, rows: count } = rows.use(i, 'copied');
    await copy.append(buffer, count);
  }
  return copy;
}
