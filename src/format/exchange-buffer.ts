/** What the workgroups of the whole-token kernel share: floats that one writes and others wait for, in two halves used in turn. */
import type { LlamaConfig } from './config';
import { pieceCount } from './kv-cache';
import { qkvRows } from './tensors';

/** What the size depends on. */
export interface ExchangeShape {
  readonly config: LlamaConfig;
  readonly contextLength: number;
  /** B of the online rotation in front of down, or null. */
  readonly downBlock: number | null;
}

/** Word where the halves start, behind the words that count. */
export const halvesAt = 96;

/** Where in the buffer lies what, in words; in a layer from its start. */
export function exchangeLayout({ config, contextLength, downBlock }: ExchangeShape) {
  const { hiddenSize: D, intermediateSize: F, numHeads, headDim } = config;
  const line = (words: number) => Math.ceil(words / 32) * 32;
  const attendedAt = line(qkvRows(config));
  const middleAt = attendedAt + line(numHeads * headDim);
  const activatedAt = middleAt + line(D);
  const rotatedAt = activatedAt + line(F);
  const outAt = downBlock === null ? rotatedAt : rotatedAt + line(F);
  const partialsAt = outAt + line(D);
  const layerWords = partialsAt + line(numHeads * pieceCount({ contextLength, headDim }) * (headDim + 2));
  const halfWords = config.numLayers * layerWords;
  return { halfWords, layerWords, attendedAt, middleAt, activatedAt, rotatedAt, outAt, partialsAt };
}

/** Words of the whole buffer. */
export function exchangeWords(shape: ExchangeShape): number {
  return halvesAt + 2 * exchangeLayout(shape).halfWords;
}
