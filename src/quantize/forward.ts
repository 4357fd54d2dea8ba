/** One transformer block on the host: the order of operations, whatever the linears are (float or quantized). */
import type { LlamaConfig } from '../format/config';
import { type Matrix, matrix } from './matrix';
import { multiplyTransposed } from './products';

/** The six steps of a block that quantization changes. Linears add their bias. */
export interface Block {
  /** attn_norm as q,k,v's input: [T, D] -> [T, D] floats or [T, K'] integers. */
  attnInput(x: Matrix): Matrix;
  qkv(input: Matrix): Promise<Matrix>; // -> [T, (H + 2·Hkv)·Dh]
  o(attended: Matrix): Promise<Matrix>; // [T, H·Dh] -> [T, D]
  mlpInput(x: Matrix): Matrix;
  gateUp(input: Matrix): Promise<Matrix>; // -> [T, 2F], rows interleaved
  /** The online rotation of the Hadamard variant, [T, F] -> [T, F]; absent without it. */
  downInput?(gated: Matrix): Matrix;
  down(gated: Matrix): Promise<Matrix>; // [T, F] -> [T, D]
}

/** The four places whose values become integers. */
export type Site = 'attn' | 'o' | 'mlp' | 'down';

/** RMSNorm: x·γ / √(mean(x²) + ε), row by row. */
export function rmsNorm(x: Matrix, gamma: Float32Array, eps: number): Matrix {
  const out = matrix(x.rows, x.cols);
  for (let t = 0; t < x.rows; t++) {
    const from = t * x.cols;
    let squares = 0;
    for (let k = 0; k < x.cols; k++) squares += x.data[from + k]! ** 2;
    const inverse = 1 / Math.sqrt(squares / x.cols + eps);
    for (let k = 0; k < x.cols; k++) out.data[from + k] = x.data[from + k]! * inverse * gamma[k]!;
  }
  return out;
}

/** Angles per position and pair: cos and sin [positions, Dh/2], with the config's frequency scaling. */
export interface RopeTable {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** θ^(−2i/Dh), i < Dh/2, scaled as Hugging Face's `linear` and `llama3` rope types do. */
export function ropeFrequencies(config: LlamaConfig): Float64Array {
  const { headDim, ropeTheta, ropeScaling } = config;
  const plain = Float64Array.from({ length: headDim / 2 }, (_, i) => ropeTheta ** ((-2 * i) / headDim));
  if (!ropeScaling) return plain;
  if (ropeScaling.type === 'linear') return plain.map((frequency) => frequency / ropeScaling.factor);
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = ropeScaling;
  return plain.map((frequency) => {
    const turns = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
    const blend = Math.max(0, Math.min(1, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
    return ((1 - blend) * frequency) / factor + blend * frequency;
  });
}

export function ropeTable(config: LlamaConfig, positions: number): RopeTable {
  const frequencies = ropeFrequencies(config);
  const angle = (_: unknown, i: number) =>
    Math.floor(i / frequencies.length) * frequencies[i % frequencies.length]!;
  const angles = Float64Array.from({ length: positions * frequencies.length }, angle);
  return { cos: Float32Array.from(angles, Math.cos), sin: Float32Array.from(angles, Math.sin) };
}

/** Columns [from, from + width) of `x`, the halves of each row rotated (Hugging Face's pairing i, i + Dh/2). */
function rotatedHead(x: Matrix, from: number, width: number, rope: RopeTable): Matrix {
  const out = matrix(x.rows, width);
  const half = width / 2;
  for (let t = 0; t < x.rows; t++) {
    for (let i = 0; i < half; i++) {
      const a = x.data[t * x.cols + from + i]!;
      const b = x.data[t * x.cols + from + half + i]!;
      const cos = rope.cos[t * half + i]!;
      const sin = rope.sin[t * half + i]!;
      out.data[t * width + i] = a * cos - b * sin;
      out.data[t * width + half + i] = b * cos + a * sin;
    }
  }
  return out;
}

/** Columns [from, from + width) of `x`, transposed: [width, T]. */
function columnsTransposed(x: Matrix, from: number, width: number): Matrix {
  const out = matrix(width, x.rows);
  for (let t = 0; t < x.rows; t++) {
    for (let i = 0; i < width; i++) out.data[i * x.rows + t] = x.data[t * x.cols + from + i]!;
  }
  return out;
}

/** Softmax over the keys up to each query's own position; later ones become 0. In place. */
function causalSoftmax(scores: Matrix, scale: number): void {
  for (let t = 0; t < scores.rows; t++) {
    const row = scores.data.subarray(t * scores.cols, (t + 1) * scores.cols);
    let max = Number.NEGATIVE_INFINITY;
    for (let j = 0; j <= t; j++) max = Math.max(max, row[j]!);
    let sum = 0;
    for (let j = 0; j <= t; j++) {
      const weight = Math.exp((row[j]! - max) * scale);
      row[j] = weight;
      sum += weight;
    }
    for (let j = 0; j <= t; j++) row[j]! /= sum;
    row.fill(0, t + 1);
  }
}

/** Causal grouped-query attention of one sequence from position 0: [T, (H + 2·Hkv)·Dh] -> [T, H·Dh]. */
export async function attention(qkv: Matrix, config: LlamaConfig, rope: RopeTable): Promise<Matrix> {
  const { numHeads, numKvHeads, headDim } = config;
  const out = matrix(qkv.rows, numHeads * headDim);
  const perGroup = numHeads / numKvHeads;
  for (let group = 0; group < numKvHeads; group++) {
    const keys = rotatedHead(qkv, (numHeads + group) * headDim, headDim, rope);
    const values = columnsTransposed(qkv, (numHeads + numKvHeads + group) * headDim, headDim);
    for (let head = group * perGroup; head < (group + 1) * perGroup; head++) {
      const scores = await multiplyTransposed(rotatedHead(qkv, head * headDim, headDim, rope), keys);
      causalSoftmax(scores, 1 / Math.sqrt(headDim));
      const attended = await multiplyTransposed(scores, values);
      for (let t = 0; t < qkv.rows; t++) {
        out.data.set(attended.data.subarray(t * headDim, (t + 1) * headDim), t * out.cols + head * headDim);
      }
    }
  }
  return out;
}

/** SwiGLU's gate: [T, 2F] interleaved -> [T, F]. */
export function siluMul(gateUp: Matrix): Matrix {
  const out = matrix(gateUp.rows, gateUp.cols / 2);
  for (let i = 0; i < out.data.length; i++) {
    const gate = gateUp.data[2 * i]!;
    out.data[i] = (gate / (1 + Math.exp(-gate))) * gateUp.data[2 * i + 1]!;
  }
  return out;
}

function addInto(x: Matrix, y: Matrix): void {
  for (let i = 0; i < x.data.length; i++) x.data[i]! += y.data[i]!;
}

/**
 * One block over one sequence: x [T, D] is replaced by the block's output.
 * @param observe sees the four sites' values before they are quantized.
 */
export async function forwardBlock(
  block: Block,
  x: Matrix,
  config: LlamaConfig,
  rope: RopeTable,
  observe: (site: Site, rows: Matrix) => void = () => {},
): Promise<void> {
  const attnInput = block.attnInput(x);
  observe('attn', attnInput);
  const attended = await attention(await block.qkv(attnInput), config, rope);
  observe('o', attended);
  addInto(x, await block.o(attended));
  const mlpInput = block.mlpInput(x);
  observe('mlp', mlpInput);
  const gated = siluMul(await block.gateUp(mlpInput));
  const downInput = block.downInput?.(gated) ?? gated;
  observe('down', downInput);
  addInto(x, await block.down(downInput));
}
