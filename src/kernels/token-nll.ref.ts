/** −ln softmax(logits[t])[targets[t]] in float64. logits [T, V], targets [T] -> [T]; no target (0xffffffff): 0. */
export function tokenNllRef(logits: Float32Array, targets: Uint32Array, vocabSize: number): Float64Array {
  return Float64Array.from(targets, (target, t) => {
    if (target === 0xffffffff) return 0;
    const row = logits.subarray(t * vocabSize, (t + 1) * vocabSize);
    const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = row.reduce((a, b) => a + Math.exp(b - max), 0);
    return Math.log(sum) + max - row[target]!;
  });
}
