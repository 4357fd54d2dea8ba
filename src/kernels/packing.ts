/** Small encodings that kernels share with whoever fills their buffers. */

/** A gather entry that cannot be encoded. Names the element. */
export class GatherRangeError extends Error {
  override readonly name = 'GatherRangeError';
}

const indexBits = 20;
const maxOffset = 2 ** (31 - indexBits) - 1;

/**
 * Packs a static norm's gather (Eq. 6) for `rmsnormQuantStatic`: word k holds the source index of element k in its 20 low
 * bits and the integer added after rounding, signed, in its 12 high bits.
 * @param gather [K'] source indices, each below `hiddenSize`.
 * @param offset [K'] integers from −2048 to 2047, or null for none.
 * @param hiddenSize D; at most 2^20.
 * @throws GatherRangeError naming the first element out of range, or the two lengths when they differ.
 */
export function packGather(
  gather: Uint32Array,
  offset: Int32Array | null,
  hiddenSize = 2 ** indexBits,
): Uint32Array<ArrayBuffer> {
  if (hiddenSize > 2 ** indexBits)
    throw new GatherRangeError(
      `hidden size ${hiddenSize}: a gather reaches at most ${2 ** indexBits} channels`,
    );
  if (offset && offset.length !== gather.length)
    throw new GatherRangeError(`gather has ${gather.length} elements, its offsets ${offset.length}`);
  return Uint32Array.from(gather, (index, k) => {
    const added = offset ? offset[k]! : 0;
    if (index >= hiddenSize)
      throw new GatherRangeError(
        `gather element ${k}: expected an index below ${hiddenSize}, found ${index}`,
      );
    if (added < -maxOffset - 1 || added > maxOffset) {
      throw new GatherRangeError(
        `gather element ${k}: expected an offset from ${-maxOffset - 1} to ${maxOffset}, found ${added}`,
      );
    }
    return index | (added << indexBits);
  });
}
