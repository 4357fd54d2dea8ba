/** What the kernels that walk a model's products in one dispatch are told of each; see `shaders/persistent_weights.wgsl`. */
import type { Gpu } from '../gpu/gpu';

/** Where a product's parts lie, in bytes, all multiples of 16. */
export interface ProductSite {
  /** Which of the two weight buffers, and where in it: [rows, K'/8] u32. */
  readonly arena: number;
  readonly weightBytes: number;
  readonly inputs: number; // K', a multiple of 32
  readonly rows: number; // N, even
  /** In `tables`: [N] f32 each; a bias is only read where the model has one. */
  readonly scaleBytes: number;
  readonly biasBytes: number;
}

/** Products that the table holds. */
export const mostSites = 512;
export const wordsPerSite = 8;

/** The table; the last two words of each product are the caller's. */
export function siteWords(sites: readonly ProductSite[]): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(mostSites * wordsPerSite);
  sites.forEach(({ arena, weightBytes, inputs, rows, scaleBytes, biasBytes }, i) => {
    words.set(
      [weightBytes / 16, arena, inputs / 32, rows, scaleBytes / 16, biasBytes / 16],
      wordsPerSite * i,
    );
  });
  return words;
}

/** K' up to which a token fits, in steps so that models of slightly different K' share a pipeline. */
export function capacityPieces(inputs: number): number {
  return Math.ceil(inputs / 1024) * 32;
}

/** Rounds of words behind whole rounds of pieces, for the subgroup size that needs most. */
export function tailRounds({ caps }: Gpu, inputs: readonly number[]): number {
  let most = 0;
  for (const K of inputs) {
    for (let lanes = caps.subgroupMinSize; lanes <= caps.subgroupMaxSize; lanes *= 2) {
      most = Math.max(most, Math.ceil((((K / 32) % lanes) * 4) / lanes));
    }
  }
  return most;
}
