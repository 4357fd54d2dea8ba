/**
 * Orthonormal Hadamard rotations of any even length, with random signs (the Hadamard variant of MergeQuant, arXiv
 * 2503.07654 §4; rotations as in QuaRot, arXiv 2404.00456).
 *
 * A length 2^k·m is covered by one Kronecker product H_base ⊗ H_Walsh where a base of order m·2^j is known from Paley's
 * constructions (12, 20, 28, 36, 44, 60, …), so that every channel meets every other: 5120 = 20·256, 3072 = 12·256,
 * 3584 = 28·128, 6656 = 104·64. Other lengths (23·2^k) get a block-diagonal Walsh matrix with blocks of the largest power of two.
 */
import { seededRandom } from '../format/random';

/** A rotation y = x·diag(signs)·H/√n, x a row of `size` values. */
export interface Rotation {
  readonly size: number;
  /** ±1 per element [size]. */
  readonly signs: Int8Array;
  /** ±1 matrix of `order` rows and columns; null where Walsh blocks alone are used. */
  readonly base: { readonly order: number; readonly values: Int8Array } | null;
  /** Length of the Walsh–Hadamard transform, a power of two. */
  readonly walsh: number;
}

function isPrime(n: number): boolean {
  if (n < 2) return false;
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return true;
}

/** Largest power of two that divides n. */
export function powerOfTwoPart(n: number): number {
  return 2 ** Math.round(Math.log2(n & -n));
}

/** χ(i − j) over GF(q), bordered by a row of ones and a column of `corner`: Paley's matrix of order q + 1, zero diagonal. */
function paleyCore(q: number, corner: 1 | -1): Int8Array {
  const character = new Int8Array(q).fill(-1);
  character[0] = 0;
  for (let i = 1; i < q; i++) character[(i * i) % q] = 1;
  const order = q + 1;
  const core = new Int8Array(order * order);
  for (let i = 1; i < order; i++) {
    core[i] = 1;
    core[i * order] = corner;
    for (let j = 1; j < order; j++) core[i * order + j] = character[(i - j + q) % q]!;
  }
  return core;
}

/** Paley's first construction: I + S of order q + 1, q ≡ 3 (mod 4) prime. */
function paleyOne(q: number): Int8Array {
  const values = paleyCore(q, -1);
  for (let i = 0; i <= q; i++) values[i * (q + 2)] = 1;
  return values;
}

/** Paley's second construction: [[C + I, C − I], [C − I, −C − I]] of order 2(q + 1), q ≡ 1 (mod 4) prime. */
function paleyTwo(q: number): Int8Array {
  const half = q + 1;
  const core = paleyCore(q, 1);
  const order = 2 * half;
  const values = new Int8Array(order * order);
  for (let i = 0; i < half; i++) {
    for (let j = 0; j < half; j++) {
      const c = core[i * half + j]!;
      const identity = i === j ? 1 : 0;
      values[i * order + j] = c + identity;
      values[i * order + half + j] = c - identity;
      values[(half + i) * order + j] = c - identity;
      values[(half + i) * order + half + j] = -c - identity;
    }
  }
  return values;
}

/** A Hadamard matrix of this order, row-major ±1, from Paley's constructions over prime fields; null where they give none. */
export function paleyHadamard(order: number): Int8Array | null {
  if (order % 4 !== 0) return null;
  if (isPrime(order - 1)) return paleyOne(order - 1);
  const q = order / 2 - 1;
  return q % 4 === 1 && isPrime(q) ? paleyTwo(q) : null;
}

/** Larger bases cost order² additions per column and exist for no model seen. */
const largestBase = 256;

/**
 * A rotation of `size` elements. @param seed chooses the signs; null: all +1.
 * @throws RangeError for an odd size, which no Hadamard block divides.
 */
export function hadamardRotation(size: number, seed: number | null): Rotation {
  if (size % 2 !== 0)
    throw new RangeError(`Hadamard rotation: expected an even number of channels, found ${size}`);
  const random = seededRandom(seed ?? 0);
  const signs = Int8Array.from({ length: size }, () => (seed === null || random() < 0.5 ? 1 : -1));
  const power = powerOfTwoPart(size);
  const odd = size / power;
  for (let order = odd * 4; odd > 1 && size % order === 0 && order <= largestBase; order *= 2) {
    const values = paleyHadamard(order);
    if (values) return { size, signs, base: { order, values }, walsh: size / order };
  }
  return { size, signs, base: null, walsh: power };
}

/** Walsh blocks of `block` elements, all signs +1: what the engine computes in front of down_proj. */
export function walshBlocks(size: number, block: number): Rotation {
  return { size, signs: new Int8Array(size).fill(1), base: null, walsh: block };
}

/** The unnormalized transform of `length` elements, each `width` adjacent values, from `start` on. In place. */
function walshTransform(data: Float32Array, start: number, length: number, width: number): void {
  for (let half = width; half < length * width; half *= 2) {
    for (let from = start; from < start + length * width; from += 2 * half) {
      for (let i = from; i < from + half; i++) {
        const a = data[i]!;
        const b = data[i + half]!;
        data[i] = a + b;
        data[i + half] = a - b;
      }
    }
  }
}

/** Element a of `order`, each `stride` adjacent values, becomes Σ_b x_b·base[b, a]. In place. */
function mixBase(
  data: Float32Array,
  start: number,
  stride: number,
  base: NonNullable<Rotation['base']>,
): void {
  const { order, values } = base;
  const column = new Float64Array(order);
  for (let at = start; at < start + stride; at++) {
    for (let b = 0; b < order; b++) column[b] = data[at + b * stride]!;
    for (let a = 0; a < order; a++) {
      let sum = 0;
      for (let b = 0; b < order; b++) sum += column[b]! * values[b * order + a]!;
      data[at + a * stride] = sum;
    }
  }
}

/** Rotates `size` elements of `width` adjacent values each, from `start` on. In place, float32. */
export function rotate(data: Float32Array, rotation: Rotation, start = 0, width = 1): void {
  const { size, signs, base, walsh } = rotation;
  const scale = 1 / Math.sqrt(walsh * (base?.order ?? 1));
  for (let k = 0; k < size; k++) {
    const factor = signs[k]! * scale;
    for (let i = start + k * width; i < start + (k + 1) * width; i++) data[i]! *= factor;
  }
  for (let k = 0; k < size; k += walsh) walshTransform(data, start + k * width, walsh, width);
  if (base) mixBase(data, start, walsh * width, base);
}

/** Rotates every row of [N, count·size], `size` columns at a time: W → W·Q. In place. */
export function rotateColumns(data: Float32Array, rotation: Rotation): void {
  for (let start = 0; start < data.length; start += rotation.size) rotate(data, rotation, start);
}

/** Rotates the outputs of [N, K], rows `firstRow` to `firstRow + size`: W → Qᵀ·W. In place. */
export function rotateRows(data: Float32Array, cols: number, rotation: Rotation, firstRow = 0): void {
  rotate(data, rotation, firstRow * cols, cols);
}
