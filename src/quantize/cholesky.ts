/** Cholesky factor in float64: the array library's own is float32 and, on WebAssembly, no faster. */

/** The matrix has no Cholesky factor. */
export class NotPositiveDefiniteError extends Error {
  override readonly name = 'NotPositiveDefiniteError';
}

/**
 * A = L·Lᵀ in place: reads and replaces the lower triangle of `a` [n, n], row-major; the upper one is left alone.
 * @throws NotPositiveDefiniteError naming the pivot
 */
export function choleskyLower(a: Float64Array, n: number): void {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j]!;
      for (let k = 0, p = i * n, q = j * n; k < j; k++) sum -= a[p + k]! * a[q + k]!;
      if (i !== j) {
        a[i * n + j] = sum / a[j * n + j]!;
        continue;
      }
      if (!(sum > 0)) throw new NotPositiveDefiniteError(`pivot ${i} of ${n} is ${sum}, expected above 0`);
      a[i * n + i] = Math.sqrt(sum);
    }
  }
}
