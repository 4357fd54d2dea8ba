/** Float prefix tokens (`quant.prefix`): when a sequence has them. */

/** Whether a sequence begins with the prefix and goes on. */
export function hasPrefix(ids: ArrayLike<number>, prefix: readonly number[]): boolean {
  return ids.length > prefix.length && prefix.every((id, i) => ids[i] === id);
}
