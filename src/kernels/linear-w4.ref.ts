export interface LinearW4RefInput {
  readonly numTokens: number;
  readonly inputs: number;
  readonly rows: number;
  readonly q: Int8Array; // [T, K']
  readonly weight: Int8Array; // [rows, K'], −8 … 7
}

/** Exact integer sums Σ_k q_tk·w_nk of one row block. -> [T, rows] */
export function linearW4Sums({ numTokens, inputs, rows, q, weight }: LinearW4RefInput): Int32Array {
  const sums = new Int32Array(numTokens * rows);
  for (let t = 0; t < numTokens; t++) {
    for (let n = 0; n < rows; n++) {
      let sum = 0;
      for (let k = 0; k < inputs; k++) sum += q[t * inputs + k]! * weight[n * inputs + k]!;
      sums[t * rows + n] = sum;
    }
  }
  return sums;
}

/** Packs integers −8 … 7 as kernels read them, one nibble at a time from the layout's definition. [rows, K'] -> [rows, K'/8] */
export function packNibblesRef(weight: Int8Array): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(weight.length / 8);
  weight.forEach((value, element) => {
    const j = element % 8;
    const shift = 8 * (j % 4) + (j < 4 ? 0 : 4);
    const word = Math.floor(element / 8);
    words[word] = (words[word]! | ((value + 8) << shift)) >>> 0;
  });
  return words;
}

/** Scale bits and integer sum of each token. q [T, K'] -> [T, 2] */
export function tokenMetaRef(q: Int8Array, inputs: number, scales: Float32Array): Uint32Array<ArrayBuffer> {
  const meta = new Uint32Array(2 * scales.length);
  const floats = new Float32Array(meta.buffer);
  const ints = new Int32Array(meta.buffer);
  scales.forEach((scale, t) => {
    floats[2 * t] = scale;
    ints[2 * t + 1] = q.slice(t * inputs, (t + 1) * inputs).reduce((sum, value) => sum + value, 0);
  });
  return meta;
}
