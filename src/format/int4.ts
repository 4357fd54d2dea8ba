/**
 * The packed weight layout: U32 [N, K'/8], offset binary u = w + 8. Element k = 8i + j of a row sits in word i, byte
 * j mod 4, low nibble for j < 4, high nibble otherwise, so that `v & 0x0F0F0F0F` and `(v >> 4) & 0x0F0F0F0F` are four
 * consecutive elements each.
 */
import { FormatError } from './errors';

/** K' is a multiple of this: one 16-byte load. */
export const inputsMultiple = 32;

function checkShape(rows: number, inputs: number, elems: number, perElem: number): void {
  if (!Number.isSafeInteger(inputs) || inputs <= 0 || inputs % inputsMultiple !== 0) {
    throw new FormatError(`int4 inputs: expected a positive multiple of ${inputsMultiple}, found ${inputs}`);
  }
  if (!Number.isSafeInteger(rows) || rows < 0 || elems * perElem !== rows * inputs) {
    throw new FormatError(`int4 matrix: expected [${rows}, ${inputs}], found ${elems * perElem} elements`);
  }
}

/**
 * @param codes [rows, inputs] integers in −8..7; padding columns are 0.
 * @returns U32 [rows, inputs/8].
 * @throws FormatError if `inputs` is no multiple of 32, the length is wrong, or a code is out of range.
 */
export function packInt4(codes: Int8Array, rows: number, inputs: number): Uint32Array {
  checkShape(rows, inputs, codes.length, 1);
  const words = new Uint32Array(codes.length / 8);
  for (let i = 0; i < words.length; i++) {
    let word = 0;
    let outside = 0;
    for (let j = 0; j < 8; j++) {
      const u = codes[8 * i + j]! + 8;
      outside |= u;
      word |= u << (8 * (j & 3) + 4 * (j >> 2));
    }
    if ((outside & ~15) !== 0) throw outOfRange(codes, i, inputs);
    words[i] = word;
  }
  return words;
}

function outOfRange(codes: Int8Array, word: number, inputs: number): FormatError {
  const at = codes.subarray(8 * word, 8 * word + 8).findIndex((code) => code < -8 || code > 7) + 8 * word;
  const place = `row ${Math.floor(at / inputs)}, input ${at % inputs}`;
  return new FormatError(`int4 code at ${place}: expected −8 to 7, found ${codes[at]}`);
}

/**
 * Inverse of {@link packInt4}: Int8 [rows, inputs].
 * @throws FormatError if `inputs` is no multiple of 32 or the length is wrong.
 */
export function unpackInt4(words: Uint32Array, rows: number, inputs: number): Int8Array {
  checkShape(rows, inputs, words.length, 8);
  const codes = new Int8Array(words.length * 8);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    for (let j = 0; j < 8; j++) codes[8 * i + j] = ((word >>> (8 * (j & 3) + 4 * (j >> 2))) & 15) - 8;
  }
  return codes;
}
