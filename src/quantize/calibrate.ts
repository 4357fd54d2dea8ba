/** What one float pass over the calibration tokens leaves behind for each layer. */
import { setImmediate } from 'node:timers/promises';
import type { LlamaConfig } from '../format/config';
import { type Block, forwardBlock, type RopeTable, type Site } from './forward';
import { type Matrix, matrix } from './matrix';
import { behindPrefix } from './prefix-rows';
import type { RowStore } from './row-store';
import { updateAbsMax } from './scales';

/** One site's statistics: the largest magnitude per channel over all tokens, and some tokens' whole rows. */
export interface SiteStats {
  readonly absMax: Float32Array; // [K]
  readonly sample: Matrix; // [sampled tokens, K]
  /** All tokens in batches, when they were kept. */
  readonly rows?: KeptRows;
  /** The float model's values at the tokens of `rows`, where those come from a quantized model. */
  readonly targets?: KeptRows;
}

/** Activations that only the device which keeps them can read. */
export interface DeviceRows {
  readonly onDevice: true;
}

/** Batches [t, K] that can be read any number of times, on the host or on a device. */
export type KeptRows = Iterable<Matrix> | DeviceRows;

export type LayerStats = Readonly<Record<Site, SiteStats>>;

/** Tokens whose rows are kept per site: bounds the memory of the clip search, whatever the calibration set's size. */
export const sampledTokens = 512;

/** `count` of `total` token numbers, one from each of `count` equal strata, ascending. */
export function chooseTokens(total: number, count: number, random: () => number): Uint32Array {
  const chosen = Math.min(count, total);
  return Uint32Array.from({ length: chosen }, (_, i) => Math.floor(((i + random()) * total) / chosen));
}

/** Gathers one site's statistics from batches that come in the order of the calibration set. */
export class SiteCollector {
  readonly absMax: Float32Array;
  readonly sample: Matrix;
  #base = 0;
  #next = 0;

  /** @param chosen ascending token numbers over the concatenated sequences. @param store keeps every row, or null */
  constructor(
    width: number,
    readonly chosen: Uint32Array,
    readonly store: RowStore | null,
  ) {
    this.absMax = new Float32Array(width);
    this.sample = matrix(chosen.length, width);
  }

  add(rows: Matrix): void {
    updateAbsMax(this.absMax, rows);
    this.store?.append(rows);
    for (
      ;
      this.#next < this.chosen.length && this.chosen[this.#next]! < this.#base + rows.rows;
      this.#next++
    ) {
      const from = (this.chosen[this.#next]! - this.#base) * rows.cols;
      this.sample.data.set(rows.data.subarray(from, from + rows.cols), this.#next * rows.cols);
    }
    this.#base += rows.rows;
  }

  stats(targets?: KeptRows): SiteStats {
    const { absMax, sample, store } = this;
    return { absMax, sample, ...(store && { rows: store }), ...(targets && { targets }) };
  }
}

/** Channels of each site. */
export function siteWidths(config: LlamaConfig): Record<Site, number> {
  return {
    attn: config.hiddenSize,
    o: config.numHeads * config.headDim,
    mlp: config.hiddenSize,
    down: config.intermediateSize,
  };
}

export const sites: readonly Site[] = ['attn', 'o', 'mlp', 'down'];

/** Where a site's rows are kept; null: only the sampled ones are. */
export type MakeStore = (site: Site, width: number) => RowStore | null;

/**
 * Runs one float block over all sequences and gathers the statistics of its four sites. `hidden` is replaced by the
 * block's output.
 * @param hidden per sequence [T, D]. @param chosen ascending token numbers over the concatenated sequences, without the first
 *   `prefixTokens` of each, which are left out.
 */
export async function calibrateLayer(
  block: Block,
  hidden: readonly Matrix[],
  chosen: Uint32Array,
  config: LlamaConfig,
  rope: RopeTable,
  makeStore: MakeStore = () => null,
  prefixTokens = 0,
): Promise<LayerStats> {
  const widths = siteWidths(config);
  const collectors = Object.fromEntries(
    sites.map((site) => [site, new SiteCollector(widths[site], chosen, makeStore(site, widths[site]))]),
  ) as Record<Site, SiteCollector>;
  for (const x of hidden) {
    await setImmediate(); // lets signals and progress through: the products themselves never yield
    await forwardBlock(block, x, config, rope, (site, rows) =>
      collectors[site].add(behindPrefix(rows, prefixTokens)),
    );
  }
  const { attn, o, mlp, down } = collectors;
  return { attn: attn.stats(), o: o.stats(), mlp: mlp.stats(), down: down.stats() };
}
