/** One quantized linear on a grid, plain numbers. G groups of a row. */
export interface LinearGridRefInput {
  readonly numTokens: number;
  readonly inputs: number;
  readonly rows: number;
  readonly groupSize: number;
  /** Between two levels: 16 with 3 bits, 8 with 4. */
  readonly distance: number;
  readonly q: Int8Array; // [T, K']
  readonly levels: Uint8Array; // [rows, K']
  readonly steps: Float32Array; // [rows, G]
  readonly zeros: Uint8Array; // [rows, G]
}

/**
 * Σ_g step_ng · (distance·Σ_k q_tk·u_nk − zero_ng·Σ_k q_tk), with exact integer sums in the brackets, in float64. -> [T, rows].
 * `magnitudes`: Σ_g |step · bracket|, what rounding errors are measured by.
 */
export function linearGridSums(input: LinearGridRefInput) {
  const { numTokens, inputs, rows, groupSize, distance, q, levels, steps, zeros } = input;
  const groups = Math.ceil(inputs / groupSize);
  const sums = new Float64Array(numTokens * rows);
  const magnitudes = new Float64Array(numTokens * rows);
  for (let t = 0; t < numTokens; t++) {
    for (let n = 0; n < rows; n++) {
      for (let g = 0; g < groups; g++) {
        let products = 0;
        let sum = 0;
        for (let k = g * groupSize; k < Math.min(inputs, (g + 1) * groupSize); k++) {
          products += q[t * inputs + k]! * levels[n * inputs + k]!;
          sum += q[t * inputs + k]!;
        }
        const at = n * groups + g;
        const part = steps[at]! * (distance * products - zeros[at]! * sum);
        sums[t * rows + n]! += part;
        magnitudes[t * rows + n]! += Math.abs(part);
      }
    }
  }
  return { sums, magnitudes };
}

/** Packs levels as kernels read them, one bit at a time from the layout's definition. [rows, K'] -> [rows, bits·K'/32] */
export function packLevelsRef(levels: Uint8Array, bits: 3 | 4): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array((levels.length * bits) / 32);
  const set = (word: number, bit: number, value: number) => {
    words[word] = (words[word]! | ((value & 1) << bit)) >>> 0;
  };
  levels.forEach((level, element) => {
    const piece = bits * Math.floor(element / 32);
    const [i, j] = [Math.floor((element % 32) / 4), element % 4];
    for (let b = 0; b < bits; b++) {
      const value = (level >> b) & 1;
      if (bits === 4) set(piece + Math.floor(i / 2), 8 * j + 4 * (i % 2) + b, value);
      else if (b < 2) set(piece + Math.floor(i / 4), 8 * j + 2 * (i % 4) + b, value);
      else set(piece + 2, 8 * j + i, value);
    }
  });
  return words;
}

/** Grid words of steps whose 8 low bits are 0. */
export function gridWordsRef(steps: Float32Array, zeros: Uint8Array): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(steps.slice().buffer);
  return words.map((word, i) => (word | zeros[i]!) >>> 0);
}
