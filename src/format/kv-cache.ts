/** How keys and values of past tokens are kept on the GPU. */

/**
 * - `f16`: halves.
 * - `int8`, `int4`: unsigned codes with a step and a minimum per position and head.
 */
export const kvCacheKinds = ['f16', 'int8', 'int4'] as const;
/** `f16` halves, or `int8` or `int4` codes with a step and a minimum per position and head. */
export type KvCacheKind = (typeof kvCacheKinds)[number];

const elementBits: Readonly<Record<KvCacheKind, number>> = { f16: 16, int8: 8, int4: 4 };

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
