export interface LinearRef {
  readonly y: Float64Array; // [T, N]
  /** Σ|x·w| (+ |bias|) (+ |y|): what rounding errors are relative to. */
  readonly magnitude: Float64Array; // [T, N]
}

/** x·weightᵀ (+ bias) (+ initial) in float64. x [T, K], weight [N, K], bias [N], initial [T, N]. */
export function linearDenseRef(
  x: Float32Array,
  weight: Float64Array,
  inputs: number,
  bias: Float32Array | null,
  initial: Float32Array | null,
): LinearRef {
  const T = x.length / inputs;
  const N = weight.length / inputs;
  const y = new Float64Array(T * N);
  const magnitude = new Float64Array(T * N);
  for (let i = 0; i < T * N; i++) {
    const xRow = Math.floor(i / N) * inputs;
    const wRow = (i % N) * inputs;
    let sum = (bias?.[i % N] ?? 0) + (initial?.[i] ?? 0);
    let size = Math.abs(bias?.[i % N] ?? 0) + Math.abs(initial?.[i] ?? 0);
    for (let k = 0; k < inputs; k++) {
      const product = x[xRow + k]! * weight[wRow + k]!;
      sum += product;
      size += Math.abs(product);
    }
    y[i] = sum;
    magnitude[i] = size;
  }
  return { y, magnitude };
}
