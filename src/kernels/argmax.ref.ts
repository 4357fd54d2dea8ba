/** Lowest index of the largest logit; undefined when there is a NaN or no finite maximum. */
export function argmaxRef(logits: ArrayLike<number>): number | undefined {
  let best = 0;
  for (let i = 0; i < logits.length; i++) {
    if (Number.isNaN(logits[i]!)) return undefined;
    if (logits[i]! > logits[best]!) best = i;
  }
  return Number.isFinite(logits[best]!) ? best : undefined;
}
