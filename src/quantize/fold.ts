/**
 * Static scales of o's and down's inputs, folded into the linears that make them: attention is linear in v and SwiGLU's
 * gate in up, so v's and up's rows are divided by s and o's and down's columns multiplied by it. Not in the paper.
 */
import type { LlamaConfig } from '../format/config';
import type { LayerWeights, Linear } from './layer';
import type { Matrix } from './matrix';

/** Heads of a group read the same v channel: each gets the group's largest scale. [H·Dh] -> [H·Dh]. */
export function headGroupMax(scales: Float32Array, config: LlamaConfig): Float32Array {
  const { numHeads, numKvHeads, headDim } = config;
  const perGroup = numHeads / numKvHeads;
  return scales.map((_, k) => {
    const firstHead = Math.floor(Math.floor(k / headDim) / perGroup) * perGroup;
    let max = 0;
    for (let head = firstHead; head < firstHead + perGroup; head++) {
      max = Math.max(max, scales[head * headDim + (k % headDim)]!);
    }
    return max;
  });
}

/** Divides the rows that `divisorOf` names; null leaves a row alone. */
function divideRows(linear: Linear, divisorOf: (row: number) => number | null): Linear {
  const { weight } = linear;
  const data = weight.data.slice();
  const bias = linear.bias?.slice() ?? null;
  for (let n = 0; n < weight.rows; n++) {
    const divisor = divisorOf(n);
    if (divisor === null) continue;
    for (let k = 0; k < weight.cols; k++) data[n * weight.cols + k]! /= divisor;
    if (bias) bias[n]! /= divisor;
  }
  const { prefix } = linear;
  const divided = prefix && dividedColumns(prefix, (k) => divisorOf(weight.rows - prefix.cols + k));
  return { weight: { ...weight, data }, bias, ...(divided && { prefix: divided }) };
}

function dividedColumns({ rows, cols, data }: Matrix, divisorOf: (column: number) => number | null): Matrix {
  return { rows, cols, data: data.map((value, i) => value / (divisorOf(i % cols) ?? 1)) };
}

export interface FoldedLayer {
  readonly qkv: Linear;
  readonly gateUp: Linear;
  /** Factors of o's columns [H·Dh] and down's [F]. */
  readonly oScales: Float32Array;
  readonly downScales: Float32Array | null;
}

/**
 * A scale of 0 (never used) becomes 1.
 * @param oScales equal within a head group, see {@link headGroupMax}
 * @param downScales null leaves gate and up alone: one step for all channels is down's own
 */
export function foldScales(
  layer: LayerWeights,
  oScales: Float32Array,
  downScales: Float32Array | null,
  config: LlamaConfig,
): FoldedLayer {
  const { numHeads, numKvHeads, headDim } = config;
  const usable = (scales: Float32Array) => scales.map((s) => (s > 0 ? s : 1));
  const o = usable(oScales);
  const down = downScales && usable(downScales);
  const firstV = (numHeads + numKvHeads) * headDim;
  const vScale = (row: number) => {
    if (row < firstV) return null;
    const group = Math.floor((row - firstV) / headDim);
    return o[group * (numHeads / numKvHeads) * headDim + ((row - firstV) % headDim)]!;
  };
  return {
    qkv: divideRows(layer.qkv, vScale),
    gateUp: down
      ? divideRows(layer.gateUp, (row) => (row % 2 === 1 ? down[(row - 1) / 2]! : null))
      : layer.gateUp,
    oScales: o,
    downScales: down,
  };
}
