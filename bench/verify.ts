/** Checks of a few outputs against exact integers or float64, before a kernel's time is believed. */
import { f16BitsToF32 } from '../src/format/half';
import type { Workbench } from './bench-context';
import { VerificationError } from './figures';

/** Seeded uniform integers from −limit − 1 to limit. */
export function randomIntegers(count: number, seed: number, limit: number): Int8Array<ArrayBuffer> {
  const next = generator(seed);
  const span = 2 * limit + 2;
  return Int8Array.from({ length: count }, () => Math.floor((next() / 2 ** 32) * span) - limit - 1);
}

/** Seeded floats, uniform from −1 to 1. */
export function randomFloats(count: number, seed: number): Float32Array<ArrayBuffer> {
  const next = generator(seed);
  return Float32Array.from({ length: count }, () => next() / 2 ** 31 - 1);
}

/** xorshift32 (Marsaglia, 2003): fast enough for tens of millions of inputs. */
function generator(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
}

/** Scale 1 and integer sum of each token. q [T, K'] -> [T, 2] */
export function tokenMeta(q: Int8Array, inputs: number): Uint32Array<ArrayBuffer> {
  const numTokens = q.length / inputs;
  const meta = new Int32Array(2 * numTokens);
  const one = new Int32Array(new Float32Array([1]).buffer)[0]!;
  for (let t = 0; t < numTokens; t++) {
    let sum = 0;
    for (let k = t * inputs; k < (t + 1) * inputs; k++) sum += q[k]!;
    meta[2 * t] = one;
    meta[2 * t + 1] = sum;
  }
  return new Uint32Array(meta.buffer);
}

interface ProductCheck {
  readonly weight: GPUBuffer;
  readonly y: GPUBuffer; // [T, N] f32
  readonly inputs: number;
  readonly outputs: number;
  readonly numTokens: number;
}

/** Where in its buffers an int4 product's parts start; at 0 where left out. */
interface ProductPlace {
  readonly weightBytes?: number;
  readonly scaleBytes?: number;
  readonly yStart?: number; // floats
}

/** First, last and a middle index. */
function probes(count: number): number[] {
  return [...new Set([0, Math.floor(count / 2), count - 1])];
}

/**
 * y = scale · Σ q·w for the probed rows and tokens: exact sums, one rounding by the scale.
 * @throws VerificationError naming the element
 */
export async function verifyInt4(
  workbench: Workbench,
  check: ProductCheck & ProductPlace & { readonly q: Int8Array; readonly scale: GPUBuffer },
): Promise<void> {
  const { q, weight, scale, y, inputs, outputs, numTokens } = check;
  const { weightBytes = 0, scaleBytes = 0, yStart = 0 } = check;
  for (const n of probes(outputs)) {
    const row = weightBytes + (n * inputs) / 2;
    const words = new Uint32Array(await workbench.read(weight, row, inputs / 2));
    const [rowScale] = new Float32Array(await workbench.read(scale, scaleBytes + 4 * n, 4));
    for (const t of probes(numTokens)) {
      let sum = 0;
      for (let k = 0; k < inputs; k++) sum += q[t * inputs + k]! * nibble(words, k);
      const expected = sum * rowScale!;
      // Sums below 2^24 are exact floats; the product with the scale rounds once, with s_t = 1 exactly.
      await requireClose(
        workbench,
        y,
        yStart + t * outputs + n,
        expected,
        2 ** -23 * Math.abs(expected),
        'linear_w4',
      );
    }
  }
}

/** Element k of a packed row: byte k mod 4 of its word, low nibble for the first four of eight. */
function nibble(words: Uint32Array, k: number): number {
  const shift = 8 * (k % 4) + (k % 8 < 4 ? 0 : 4);
  return ((words[k >> 3]! >>> shift) & 15) - 8;
}

/** y = Σ x·w for the probed rows and tokens in float64. @throws VerificationError naming the element */
export async function verifyDense(
  workbench: Workbench,
  check: ProductCheck & { readonly x: Float32Array; readonly stride: number },
): Promise<void> {
  const { x, weight, stride, y, inputs, outputs, numTokens } = check;
  for (const n of probes(outputs)) {
    const row = f16BitsToF32(new Uint16Array(await workbench.read(weight, 2 * n * stride, 2 * stride)));
    for (const t of probes(numTokens)) {
      let sum = 0;
      let magnitude = 0;
      for (let k = 0; k < inputs; k++) {
        const product = x[t * inputs + k]! * row[k]!;
        sum += product;
        magnitude += Math.abs(product);
      }
      // A float32 sum of K products in any order is off by at most K·2^-24 of the sum of magnitudes.
      await requireClose(workbench, y, t * outputs + n, sum, inputs * 2 ** -24 * magnitude, 'linear_dense');
    }
  }
}

async function requireClose(
  workbench: Workbench,
  y: GPUBuffer,
  index: number,
  expected: number,
  tolerance: number,
  kernel: string,
): Promise<void> {
  const [actual] = new Float32Array(await workbench.read(y, 4 * index, 4));
  if (!(Math.abs(actual! - expected) <= tolerance)) {
    throw new VerificationError(
      `${kernel}: output ${index} is ${actual}, expected ${expected} ± ${tolerance}`,
    );
  }
}

/**
 * Integers of one quantized token against the float64 values before rounding; `slack` is how far a float32 value may lie
 * from them.
 * @throws VerificationError naming the element
 */
export function verifyRounded(
  kernel: string,
  q: Int8Array,
  values: Float64Array,
  limit: number,
  slack: number,
): void {
  values.forEach((value, k) => {
    const clamped = Math.max(-limit - 1, Math.min(limit, value));
    if (!(Math.abs(q[k]! - clamped) <= 0.5 + slack)) {
      throw new VerificationError(`${kernel}: element ${k} is ${q[k]}, expected ${value} rounded`);
    }
  });
}
