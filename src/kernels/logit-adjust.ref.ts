/** logits [V], bias [V], mask [⌈V / 32⌉] -> [V] float32: −∞ where masked, the rounded sum elsewhere; ±∞ and NaN stay. */
export function logitAdjustRef(logits: Float32Array, bias: Float32Array, mask: Uint32Array): Float32Array {
  return logits.map((logit, v) => {
    if (!Number.isFinite(logit)) return logit;
    const allowed = (mask[Math.floor(v / 32)]! >>> (v % 32)) & 1;
    return allowed ? Math.fround(logit + bias[v]!) : -Infinity;
  });
}
