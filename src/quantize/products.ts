/** Matrix products on the array library (jax-js), on its WebAssembly backend. */
import { setImmediate } from 'node:timers/promises';
import { defaultDevice, init, numpy as np } from '@jax-js/jax';
import { type Matrix, matrix } from './matrix';

let ready: Promise<void> | undefined;

/** Starts the library's WebAssembly backend, once. @throws Error where it is missing. */
function startBackend(): Promise<void> {
  ready ??= init('wasm').then((devices) => {
    if (!devices.includes('wasm')) throw new Error('jax-js found no WebAssembly backend on this machine');
    defaultDevice('wasm');
  });
  return ready;
}

/** Bounds the library's threads, which it takes from the browser's field; call before the first product. */
export function limitThreads(threads: number): void {
  Object.defineProperty(globalThis, 'navigator', {
    value: { hardwareConcurrency: threads },
    configurable: true,
  });
}

/** The library's types refuse shared memory, which no matrix here lives in. */
function owned(values: Matrix): Float32Array<ArrayBuffer> {
  return values.data as Float32Array<ArrayBuffer>;
}

/** A linear held by the array library: y = x·Wᵀ + b, float32. */
export class LinearMap {
  readonly #weight: np.Array;

  private constructor(
    readonly outputs: number,
    readonly inputs: number,
    weight: Matrix,
    readonly bias: Float32Array | null,
  ) {
    this.#weight = np.array(owned(weight)).reshape([outputs, inputs]);
  }

  /** Copies the weight [N, K]; `dispose` frees it. */
  static async load(weight: Matrix, bias: Float32Array | null = null): Promise<LinearMap> {
    await startBackend();
    return new LinearMap(weight.rows, weight.cols, weight, bias);
  }

  /** [T, K] -> [T, N]. */
  async apply(x: Matrix): Promise<Matrix> {
    const input = np.array(owned(x)).reshape([x.rows, x.cols]);
    const product = np.matmul(input, np.transpose(this.#weight.ref));
    const data = (await product.data()) as Float32Array<ArrayBuffer>;
    if (this.bias) for (let i = 0; i < data.length; i++) data[i]! += this.bias[i % this.outputs]!;
    return matrix(x.rows, this.outputs, data);
  }

  dispose(): void {
    this.#weight.dispose();
  }
}

/** a·bᵀ: [M, K] × [N, K] -> [M, N]. */
export async function multiplyTransposed(a: Matrix, b: Matrix): Promise<Matrix> {
  const map = await LinearMap.load(b);
  try {
    return await map.apply(a);
  } finally {
    map.dispose();
  }
}

/**
 * Σ over batches of X̃ᵀX̃ [K, K] and, when asked, of X̃ᵀX [K, K] (row: channel of X̃, column: channel of X). The sums stay in
 * the array library until the last batch.
 */
export async function crossGram(
  batches: Iterable<{ readonly quantized: Matrix; readonly target: Matrix }>,
  withCross: boolean,
): Promise<{ readonly gram: Matrix; readonly cross: Matrix | null }> {
  await startBackend();
  let gram: np.Array | null = null;
  let cross: np.Array | null = null;
  let K = 0;
  const add = (sum: np.Array | null, term: np.Array) => (sum ? sum.add(term) : term);
  for (const { quantized, target } of batches) {
    K = quantized.cols;
    const x = np.array(owned(quantized)).reshape([quantized.rows, K]);
    const xT = np.transpose(x.ref);
    if (withCross) {
      const y = np.array(owned(target)).reshape([target.rows, K]);
      cross = add(cross, np.matmul(xT.ref, y));
    }
    gram = add(gram, np.matmul(xT, x));
    await setImmediate();
  }
  if (!gram) throw new RangeError('a Gram matrix needs at least one batch');
  const read = async (sum: np.Array) => matrix(K, K, (await sum.data()) as Float32Array);
  return { gram: await read(gram), cross: cross && (await read(cross)) };
}

/** Orthonormal eigenvectors of a symmetric matrix [n, n] as rows, the largest eigenvalue's first. */
export async function principalAxes(symmetric: Matrix): Promise<Matrix> {
  await startBackend();
  const n = symmetric.rows;
  const [values, vectors] = np.linalg.eigh(np.array(owned(symmetric)).reshape([n, n]));
  values.dispose();
  const data = (await np.transpose(np.flip(vectors, 1)).data()) as Float32Array<ArrayBuffer>; // ascending before
  return matrix(n, n, data);
}
