/** Takes the calibration tokens through the layers one by one: the float stream and, when asked, the quantized one. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { HadamardSpec } from '../format/manifest';
import { seededRandom } from '../format/random';
import { calibrateLayer, chooseTokens, type LayerStats, type MakeStore, sampledTokens } from './calibrate';
import type { CalibrationSet } from './calibration-data';
import { type RopeTable, ropeTable } from './forward';
import { floatBlock, type LayerWeights } from './layer';
import { type Matrix, matrix } from './matrix';
import type { Rounding } from './quantized-block';
import { LayerWalk } from './quantized-walk';
import type { WeightSource } from './rotate';
import { RowStore, spillFolder } from './row-store';

/** `float`: every layer is fitted to the float model's activations; `quantized`: to those of the layers before it. */
export const propagations = ['float', 'quantized'] as const;
export type Propagation = (typeof propagations)[number];

export interface LayerCalibratorOptions {
  readonly seed: number;
  readonly hadamard: HadamardSpec | null;
  readonly propagate: Propagation;
  readonly rounding: Rounding;
  /** Keep all tokens of each site while a layer is worked on, not the sample alone. */
  readonly keepRows: boolean;
  /** First tokens of every sequence that nothing is fitted to; default 0. */
  readonly prefixTokens?: number;
  /** Folder for files with those tokens; null keeps them in memory. */
  readonly spill: string | null;
}

/** The embedded calibration tokens, [T, D] per sequence: tokens · D · 4 bytes stay in memory between layers. */
export async function embedSequences(checkpoint: WeightSource, set: CalibrationSet): Promise<Matrix[]> {
  const D = checkpoint.config.hiddenSize;
  const rows = new Map<number, Float32Array>();
  for (const id of set.sequences.flat()) {
    if (!rows.has(id)) rows.set(id, await checkpoint.rows('embed.weight', id, 1));
  }
  return set.sequences.map((ids) => {
    const x = matrix(ids.length, D);
    ids.forEach((id, t) => {
      x.data.set(rows.get(id)!, t * D);
    });
    return x;
  });
}

export interface CalibratedLayer {
  readonly stats: LayerStats;
  readonly walk: LayerWalk | null;
}

/** `layer` must be called for each layer in order, and what it returns be used before the next call. */
export class LayerCalibrator {
  #stores: RowStore[] = [];
  readonly #chosen: Uint32Array;
  readonly #rope: RopeTable;
  readonly #quantized: Matrix[] | null;
  readonly #folder: string | null;
  #files = 0;

  private constructor(
    readonly checkpoint: WeightSource,
    readonly hidden: readonly Matrix[],
    readonly options: LayerCalibratorOptions,
  ) {
    const { prefixTokens = 0 } = options;
    const tokens = hidden.reduce((sum, { rows }) => sum + rows - prefixTokens, 0);
    this.#chosen = chooseTokens(tokens, sampledTokens, seededRandom(options.seed + 1));
    this.#rope = ropeTable(checkpoint.config, Math.max(...hidden.map(({ rows }) => rows)));
    const copy = (x: Matrix) => matrix(x.rows, x.cols, x.data.slice());
    this.#quantized = options.propagate === 'quantized' ? hidden.map(copy) : null;
    this.#folder = spillFolder(options.spill);
  }

  static async create(checkpoint: WeightSource, set: CalibrationSet, options: LayerCalibratorOptions) {
    return new LayerCalibrator(checkpoint, await embedSequences(checkpoint, set), options);
  }

  /** Runs the float layer, and hands out its statistics and the walk through its quantized parts. */
  async layer(weights: LayerWeights): Promise<CalibratedLayer> {
    const { checkpoint, options } = this;
    const { config } = checkpoint;
    this.#release();
    const makeStore: MakeStore = (_, width) => (options.keepRows ? this.#store(width) : null);
    const block = await floatBlock(weights, config.rmsNormEps, options.hadamard);
    try {
      const { prefixTokens } = options;
      const run = [block, this.hidden, this.#chosen, config, this.#rope, makeStore] as const;
      const stats = await calibrateLayer(...run, prefixTokens);
      if (!this.#quantized) return { stats, walk: null };
      const walkOptions = { ...options, config, rope: this.#rope, chosen: this.#chosen, makeStore };
      return { stats, walk: new LayerWalk(weights, stats, this.#quantized, walkOptions) };
    } finally {
      block.dispose();
    }
  }

  /** Frees rows and files. */
  dispose(): void {
    this.#release();
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
  }

  #store(width: number): RowStore {
    const path = this.#folder && join(this.#folder, `${this.#files++}.f32`);
    const store = new RowStore(width, path);
    this.#stores.push(store);
    return store;
  }

  #release(): void {
    for (const store of this.#stores) store.dispose();
    this.#stores = [];
  }
}
