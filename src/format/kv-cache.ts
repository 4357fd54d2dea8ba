/** How keys and values of past tokens are kept on the GPU. */

/**
 * - `f16`: halves.
 * - `int8`, `int4`: unsigned codes with a step and a minimum per position and head.
 */
export const kvCacheKinds = ['f16', 'int8', 'int4'] as const;
/** `f16` halves, or `int8` or `int4` codes with a step and a minimum per position and head. */
export type KvCacheKind = (typeof kvCacheKinds)[number];

/** What can be asked for: a kind, or `auto`, which leaves it to {@link chosenKvCache}. */
export const kvCacheChoices = ['auto', ...kvCacheKinds] as const;
/** A kind of cache, or `auto`: by the length of the context. */
export type KvCacheChoice = (typeof kvCacheChoices)[number];

/**
 * Tokens of context from which `auto` takes codes of 8 bits: from there attention reads them faster than halves, at no
 * perplexity that could be measured and in half the memory (docs/LOG.md).
 */
const int8FromTokens = 2048;

/** The kind that a choice comes to; the one rule for engines, plans and pages. @param mustBeHalves where nothing else can read it */
export function chosenKvCache(
  choice: KvCacheChoice,
  contextLength: number,
  mustBeHalves = false,
): KvCacheKind {
  if (choice !== 'auto') return choice;
  return mustBeHalves || contextLength < int8FromTokens ? 'f16' : 'int8';
}

const elementBits: Readonly<Record<KvCacheKind, number>> = { f16: 16, int8: 8, int4: 4 };

/**
 * Keys of one piece of attention (the unit in which the softmax is joined) and lanes of a workgroup. Small models get small
 * ones: a short context leaves fewer lanes idle, and a software adapter compiles them four times faster.
 */
export function pieceKeys(contextLength: number, headDim: number): number {
  return headDim <= 64 && contextLength <= 1024 ? 64 : 256;
}

/** Pieces that the context is cut into; with one there is nothing to split. */
export function pieceCount({
  contextLength,
  headDim,
}: {
  readonly contextLength: number;
  readonly headDim: number;
}): number {
  return Math.ceil(contextLength / pieceKeys(contextLength, headDim));
}

/** Bytes of one position of one head's keys, or of its values: whole 16-byte loads. */
export function kvRowBytes(headDim: number, kind: KvCacheKind): number {
  return Math.ceil((headDim * elementBits[kind]) / 128) * 16;
}

/** Bytes of one layer's keys, and of its values. */
export function kvCacheBytes(
  { numKvHeads, headDim }: { readonly numKvHeads: number; readonly headDim: number },
  contextLength: number,
  kind: KvCacheKind,
): number {
  return numKvHeads * contextLength * kvRowBytes(headDim, kind);
}

/** Bytes of the steps and minima of one layer's keys and values together; 0 where there are none. */
export function kvScalesBytes(
  { numKvHeads }: { readonly numKvHeads: number },
  contextLength: number,
  kind: KvCacheKind,
): number {
  return kind === 'f16' ? 0 : 2 * 4 * numKvHeads * contextLength;
}
