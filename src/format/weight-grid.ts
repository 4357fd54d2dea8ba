/**
 * Asymmetric weight grids (format version 2). A group of consecutive inputs of a row shares a step and a zero point:
 *
 *   w = step · code,   code = 2^(7−b)·u − zero
 *
 * with a level u of b bits (0 … 2^b − 1) and a zero point from 0 to 127. Codes of either width are then signed bytes, as
 * integer products take them, and the zero point lies on a sixteenth (3 bits) or an eighth (4 bits) of a level.
 */
import { FormatError } from './errors';
import { inputsMultiple, packInt4, unpackInt4 } from './int4';
import type { WeightBits } from './scheme';

/** How many inputs share a step and a zero point; null: all inputs of a row. */
export interface WeightGrid {
  readonly groupSize: number | null;
}

/** Sums of that many products of two bytes, −128 and ±127, stay within 32 bits. */
export const maxGroupSize = 131_072;
export const maxZero = 127;

/** Groups of a row of K' inputs; the last one may be shorter. */
export function groupCount({ groupSize }: WeightGrid, inputs: number): number {
  return groupSize === null ? 1 : Math.ceil(inputs / groupSize);
}

/** Distance of two levels in codes: 16 for 3 bits, 8 for 4. */
export function levelDistance(bits: WeightBits): number {
  return 2 ** (7 - bits);
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/** The nearest step that a grid word holds, float32 without its 8 low bits. @throws FormatError unless it is a positive float32 */
export function storableStep(step: number): number {
  wordAsFloat[0] = step;
  word[0] = (word[0]! + 0x80) & 0xffffff00;
  const stored = wordAsFloat[0]!;
  if (!(stored > 0 && Number.isFinite(stored))) {
    throw new FormatError(`weight step: expected a positive float32, found ${step}`);
  }
  return stored;
}

/** Step (24 high bits) and zero point (7 low bits) in a word. `step` as from {@link storableStep}. */
export function gridWord(step: number, zero: number): number {
  if (!Number.isInteger(zero) || zero < 0 || zero > maxZero) {
    throw new FormatError(`weight zero point: expected an integer from 0 to ${maxZero}, found ${zero}`);
  }
  wordAsFloat[0] = step;
  if ((word[0]! & 0xff) !== 0)
    throw new FormatError(`weight step ${step}: expected a float32 whose 8 low bits are 0`);
  return (word[0]! | zero) >>> 0;
}

export function gridStep(gridWord: number): number {
  word[0] = gridWord & 0xffffff00;
  return wordAsFloat[0]!;
}

export function gridZero(gridWord: number): number {
  return gridWord & 0xff;
}

/** Words of a row of K' packed levels. */
export function levelWords(bits: WeightBits, inputs: number): number {
  return (inputs * bits) / 32;
}

/**
 * Packs levels [rows, K'] row by row. 4 bits: as `packInt4` lays out u. 3 bits: three words for 32 elements; element 4i + j
 * has its two low bits in word ⌊i/4⌋ at bit 8j + 2(i mod 4) and its high bit in word 2 at bit 8j + i, so that four
 * consecutive elements come out in four byte lanes with two shifts.
 * @throws FormatError if K' is no multiple of 32, the length is wrong, or a level is out of range
 */
export function packLevels(levels: Uint8Array, bits: WeightBits, rows: number, inputs: number): Uint32Array {
  const worst = levels.findIndex((level) => level >= 2 ** bits);
  if (worst >= 0) {
    const place = `row ${Math.floor(worst / inputs)}, input ${worst % inputs}`;
    throw new FormatError(`weight level at ${place}: expected 0 to ${2 ** bits - 1}, found ${levels[worst]}`);
  }
  if (bits === 4)
    return packInt4(
      Int8Array.from(levels, (u) => u - 8),
      rows,
      inputs,
    );
  checkShape(rows, inputs, levels.length);
  const words = new Uint32Array((levels.length * 3) / 32);
  levels.forEach((level, element) => {
    const { low, lowShift, high, highShift } = placeOf(element);
    words[low]! |= (level & 3) << lowShift;
    words[high]! |= (level >> 2) << highShift;
  });
  return words;
}

/** Inverse of {@link packLevels}. @throws FormatError if K' is no multiple of 32 or the length is wrong */
export function unpackLevels(words: Uint32Array, bits: WeightBits, rows: number, inputs: number): Uint8Array {
  if (bits === 4) return Uint8Array.from(unpackInt4(words, rows, inputs), (code) => code + 8);
  checkShape(rows, inputs, (words.length * 32) / 3);
  return Uint8Array.from({ length: rows * inputs }, (_, element) => {
    const { low, lowShift, high, highShift } = placeOf(element);
    return ((words[low]! >>> lowShift) & 3) | (((words[high]! >>> highShift) & 1) << 2);
  });
}

/** Words and bits of a 3-bit element. */
function placeOf(element: number) {
  const first = 3 * Math.floor(element / 32);
  const i = (element % 32) >> 2;
  const lane = 8 * (element & 3);
  return { low: first + (i >> 2), lowShift: lane + 2 * (i & 3), high: first + 2, highShift: lane + i };
}

function checkShape(rows: number, inputs: number, elems: number): void {
  if (!Number.isSafeInteger(inputs) || inputs <= 0 || inputs % inputsMultiple !== 0) {
    throw new FormatError(`3-bit inputs: expected a positive multiple of ${inputsMultiple}, found ${inputs}`);
  }
  if (!Number.isSafeInteger(rows) || rows < 0 || elems !== rows * inputs) {
    throw new FormatError(`3-bit matrix: expected [${rows}, ${inputs}], found ${elems} elements`);
  }
}

/** Codes [rows, K'] of packed levels and their grid words [rows, G]: what the steps multiply. */
export function unpackCodes(
  words: Uint32Array,
  grid: Uint32Array,
  { groupSize }: WeightGrid,
  bits: WeightBits,
  rows: number,
): Int8Array {
  const inputs = (words.length * 32) / bits / rows;
  const levels = unpackLevels(words, bits, rows, inputs);
  const groups = grid.length / rows;
  const distance = levelDistance(bits);
  return Int8Array.from(levels, (level, i) => {
    const group = groupSize === null ? 0 : Math.floor((i % inputs) / groupSize);
    return distance * level - gridZero(grid[Math.floor(i / inputs) * groups + group]!);
  });
}
