/** Key-value caches on the CPU: random ones, and what the stored bits mean. For tests. */
import { type KvCacheKind, kvRowBytes } from '../format/kv-cache';
import { seededRandom } from '../format/random';
import { halfValue, randomHalves } from './dense-layout.ref';

/** Step and minimum of a row with codes: two floats of 16 bits, the upper halves of float32. */
export function rowScaleRef(bits: number): { readonly step: number; readonly minimum: number } {
  const [step, minimum] = new Float32Array(new Uint32Array([bits & 0xffff0000, bits << 16]).buffer);
  return { step: step!, minimum: minimum! };
}

/** Codes of a row of `headDim` elements, in order; padding is left out. */
export function rowCodesRef(kind: 'int8' | 'int4', row: Uint32Array, headDim: number): number[] {
  const [bits, mask] = kind === 'int8' ? [8, 255] : [4, 15];
  const perWord = 32 / bits;
  return Array.from(
    { length: headDim },
    (_, e) => (row[Math.floor(e / perWord)]! >>> (bits * (e % perWord))) & mask,
  );
}

export interface DecodedKv {
  readonly elements: Float64Array; // [rows, headDim]
  /** What an element's rounding errors are relative to: |x|, or step·u + |minimum| where these are added up apart. */
  readonly magnitudes: Float64Array; // [rows, headDim]
}

/** A cache of keys or values as numbers; `scales` is empty for halves. */
export function decodeKvRef(
  kind: KvCacheKind,
  words: Uint32Array<ArrayBuffer>,
  scales: Uint32Array,
  headDim: number,
): DecodedKv {
  const rowWords = kvRowBytes(headDim, kind) / 4;
  const rows = words.length / rowWords;
  const elements = new Float64Array(rows * headDim);
  const magnitudes = new Float64Array(rows * headDim);
  for (let r = 0; r < rows; r++) {
    const row = words.slice(r * rowWords, (r + 1) * rowWords);
    const { step, minimum } = kind === 'f16' ? { step: 0, minimum: 0 } : rowScaleRef(scales[r]!);
    const numbers =
      kind === 'f16'
        ? Array.from(new Uint16Array(row.buffer).subarray(0, headDim), halfValue)
        : rowCodesRef(kind, row, headDim).map((code) => step * code);
    numbers.forEach((value, d) => {
      elements[r * headDim + d] = minimum + value;
      magnitudes[r * headDim + d] = Math.abs(minimum) + Math.abs(value);
    });
  }
  return { elements, magnitudes };
}

export interface RandomKvCache {
  readonly keys: Uint32Array<ArrayBuffer>;
  readonly values: Uint32Array<ArrayBuffer>;
  /** Of keys, then of values. */
  readonly scales: Uint32Array<ArrayBuffer>;
}

/** A cache of `rows` rows with elements of magnitude 1 or so. Halves behind the head size are 0. */
export function randomKvCache(kind: KvCacheKind, rows: number, headDim: number, seed: number): RandomKvCache {
  if (kind === 'f16') {
    const halves = (of: number) => paddedHalves(randomHalves(rows * headDim, of), headDim);
    return { keys: halves(seed), values: halves(seed + 1), scales: new Uint32Array(0) };
  }
  const next = seededRandom(seed);
  const levels = kind === 'int8' ? 255 : 15;
  const codes = () =>
    Uint32Array.from({ length: (rows * kvRowBytes(headDim, kind)) / 4 }, () => next() * 2 ** 32);
  const scale = () => {
    const floats = new Float32Array([(2 + 2 * next()) / levels, -1 - 2 * next()]);
    const [step, minimum] = new Uint32Array(floats.buffer);
    return (step! & 0xffff0000) | (minimum! >>> 16);
  };
  return { keys: codes(), values: codes(), scales: Uint32Array.from({ length: 2 * rows }, scale) };
}

/** Rows of `headDim` halves, zeros behind each up to a whole number of 16-byte loads. */
function paddedHalves(halves: Uint16Array, headDim: number): Uint32Array<ArrayBuffer> {
  const stride = kvRowBytes(headDim, 'f16') / 2;
  const padded = new Uint16Array((halves.length / headDim) * stride);
  for (let row = 0; row * headDim < halves.length; row++) {
    padded.set(halves.subarray(row * headDim, (row + 1) * headDim), row * stride);
  }
  return new Uint32Array(padded.buffer);
}
