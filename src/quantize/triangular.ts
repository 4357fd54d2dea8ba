/** The triangular form that GPTQ rounds in; see gptq.ts. */

/** Column order and the factor U of the damped Hessian in that order, transposed: row j holds U_0j … U_jj. */
export interface Factor {
  readonly order: Uint32Array;
  readonly transposed: Float64Array; // [K, K], lower triangle
  readonly diagonal: Float64Array; // the Hessian's own, in that order
}

/** Σ_{i<length} a_i·b_{at+i}, four sums at a time: one sum alone waits for itself. */
export function dot(a: Float64Array, b: Float64Array, at: number, length: number): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  let i = 0;
  for (; i + 3 < length; i += 4) {
    s0 += a[i]! * b[at + i]!;
    s1 += a[i + 1]! * b[at + i + 1]!;
    s2 += a[i + 2]! * b[at + i + 2]!;
    s3 += a[i + 3]! * b[at + i + 3]!;
  }
  for (; i < length; i++) s0 += a[i]! * b[at + i]!;
  return s0 + s1 + s2 + s3;
}
