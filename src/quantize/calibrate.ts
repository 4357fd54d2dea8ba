/** What one float pass over the calibration tokens leaves behind for each layer. */
import { setImmediate } from 'node:timers/promises';
import type { LlamaConfig } from '../format/config';
import { type Block, forwardBlock, type RopeTable, type Site } from './forward';
import { type Matrix, matrix } from './matrix';
import { updateAbsMax } from './scales';

/** One site's statistics: the largest magnitude per channel over all tokens, and some tokens' whole rows. */
export interface SiteStats {
  readonly absMax: Float32Array; // [K]
  readonly sample: Matrix; // [sampled tokens, K]
}

export type LayerStats = Readonly<Record<Site, SiteStats>>;

/** Tokens whose rows are kept per site: bounds the memory of the clip search, whatever the calibration set's size. */
export const sampledTokens = 512;

/** `count` of `total` token numbers, one from each of `count` equal strata, ascending. */
export function chooseTokens(total: number, count: number, random: () => number): Uint32Array {
  const chosen = Math.min(count, total);
  return Uint32Array.from({ length: chosen }, (_, i) => Math.floor(((i + random()) * total) / chosen));
}

/**
 * Runs one float block over all sequences and gathers the statistics of its four sites. `hidden` is replaced by the
 * block's output: the next layer is calibrated on what the float model feeds it, not on the quantized model's drift.
 * @param hidden per sequence [T, D]. @param chosen ascending token numbers over the concatenated sequences.
 */
export async function calibrateLayer(
  block: Block,
  hidden: readonly Matrix[],
  chosen: Uint32Array,
  config: LlamaConfig,
  rope: RopeTable,
): Promise<LayerStats> {
  const widths: Record<Site, number> = {
    attn: config.hiddenSize,
    o: config.numHeads * config.headDim,
    mlp: config.hiddenSize,
    down: config.intermediateSize,
  };
  const collect = (site: Site) => ({
    absMax: new Float32Array(widths[site]),
    sample: matrix(chosen.length, widths[site]),
  });
  const stats = { attn: collect('attn'), o: collect('o'), mlp: collect('mlp'), down: collect('down') };
  let base = 0;
  let next = 0;
  for (const x of hidden) {
    await setImmediate(); // lets signals and progress through: the products themselves never yield
    const first = next;
    while (next < chosen.length && chosen[next]! < base + x.rows) next++;
    await forwardBlock(block, x, config, rope, (site, rows) => {
      updateAbsMax(stats[site].absMax, rows);
      for (let i = first; i < next; i++) {
        const from = (chosen[i]! - base) * rows.cols;
        stats[site].sample.data.set(rows.data.subarray(from, from + rows.cols), i * rows.cols);
      }
    });
    base += x.rows;
  }
  return stats;
}
