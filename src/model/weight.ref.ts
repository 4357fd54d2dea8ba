/** A stored linear's weights one at a time, by the layouts of docs/FORMAT.md: what the references multiply. */
import { type ModelLayout, paddedInputs } from '../format/tensors';
import { gridStep, gridZero, groupCount, levelDistance } from '../format/weight-grid';
import type { RefTensors } from './forward.ref';

export interface RefWeight {
  readonly rows: number;
  /** Element k of row n; a matrix with row scales is to be multiplied by those afterwards. */
  readonly element: (n: number, k: number) => number;
  readonly scale: (n: number) => number;
  /** float32 sums over groups that a kernel adds up; 0 where its sums are exact integers or those of floats. */
  readonly groups: number;
}

/** @param inputs elements that the linear is given; a quantized one's rows are padded to a multiple of 32 */
export function refWeight(
  { quant }: ModelLayout,
  tensors: RefTensors,
  name: string,
  inputs: number,
): RefWeight {
  const weight = tensors.get(`${name}.weight`);
  if (!weight) throw new Error(`reference model: no tensor ${name}.weight`);
  const scales = tensors.get(`${name}.scale`);
  const grid = tensors.get(`${name}.grid`);
  if (quant?.weightGrid && grid instanceof Uint32Array && weight instanceof Uint32Array) {
    const { weightBits: bits, weightGrid } = quant;
    const padded = paddedInputs(inputs);
    const groups = groupCount(weightGrid, padded);
    const element = (n: number, k: number) => {
      const word = grid[n * groups + Math.floor(k / (weightGrid.groupSize ?? padded))]!;
      const level = bits === 3 ? level3(weight, n * padded + k) : nibble(weight, (n * padded) / 8, k);
      return gridStep(word) * (levelDistance(bits) * level - gridZero(word));
    };
    return { rows: grid.length / groups, element, scale: () => 1, groups };
  }
  if (scales && weight instanceof Uint32Array) {
    const stride = weight.length / scales.length;
    const element = (n: number, k: number) => nibble(weight, n * stride, k) - 8;
    return { rows: scales.length, element, scale: (n) => scales[n]!, groups: 0 };
  }
  return {
    rows: weight.length / inputs,
    element: (n, k) => weight[n * inputs + k]!,
    scale: () => 1,
    groups: 0,
  };
}

/** Nibble k of a packed row: low nibbles of four bytes first. */
function nibble(words: Uint32Array, rowStart: number, k: number): number {
  const word = words[rowStart + (k >> 3)]!;
  const shift = 8 * (k & 3) + ((k & 7) < 4 ? 0 : 4);
  return (word >>> shift) & 15;
}

/** 3-bit element of a matrix whose rows are multiples of 32. */
function level3(words: Uint32Array, element: number): number {
  const first = 3 * Math.floor(element / 32);
  const [i, j] = [Math.floor((element % 32) / 4), element % 4];
  const low = words[first + Math.floor(i / 4)]! >>> (8 * j + 2 * (i % 4));
  const high = words[first + 2]! >>> (8 * j + i);
  return (low & 3) | ((high & 1) << 2);
}
