/**
 * The Hadamard variant of MergeQuant (arXiv 2503.07654 §4), offline part: a checkpoint that computes the same function with
 * its residual stream, its heads' values and down_proj's input rotated, so that no channel is an outlier.
 *
 * With Q the rotation of the residual stream, P the one of a head's values and H the Walsh blocks in front of down_proj:
 *   embedding E·Q;  q,k,v and gate,up W·diag(γ)·Q, norms then have weight 1;  o and down Qᵀ·W;  head W·diag(γ)·Q;
 *   v's outputs Pᵀ·W and o's inputs W·P per head;  up's outputs times ±1;  down's inputs W·diag(±1)·H.
 * Only H remains at run time. RMSNorm without a weight commutes with Q: it sees the row's length alone.
 */
import type { LlamaConfig } from '../format/config';
import type { HadamardSpec } from '../format/manifest';
import type { Checkpoint } from './checkpoint';
import {
  hadamardRotation,
  powerOfTwoPart,
  type Rotation,
  rotateColumns,
  rotateRows,
  walshBlocks,
} from './hadamard';
import type { LayerWeights, Linear } from './layer';
import { type Matrix, matrix } from './matrix';

/** What preparing reads of a checkpoint, rotated or not. */
export type WeightSource = Pick<Checkpoint, 'config' | 'folder' | 'rows' | 'tensor' | 'layer'>;

/** Blocks above this gain nothing measurable and outgrow a workgroup's memory on small GPUs. */
const largestOnlineBlock = 1024;

/**
 * Block of the online transform: the largest power of two that divides F, at most 1024 (768: 256, 11008: 256,
 * 14336: 1024). @throws RangeError for an odd F
 */
export function onlineHadamard({ intermediateSize }: LlamaConfig): HadamardSpec {
  const power = powerOfTwoPart(intermediateSize);
  if (power < 2) {
    throw new RangeError(`Hadamard variant: expected an even intermediate size, found ${intermediateSize}`);
  }
  return { downBlock: Math.min(power, largestOnlineBlock) };
}

/** Walsh blocks over each row of down_proj's input [T, F], as the engine's kernel computes them. */
export function onlineRotation(gated: Matrix, { downBlock }: HadamardSpec): Matrix {
  const data = gated.data.slice();
  rotateColumns(data, walshBlocks(downBlock, downBlock));
  return matrix(gated.rows, gated.cols, data);
}

/** The matrix of one block, [block, block]: row i is what the transform makes of the unit vector i. */
export function walshMatrix(block: number): Float32Array {
  const data = new Float32Array(block * block);
  for (let i = 0; i < block; i++) data[i * (block + 1)] = 1;
  rotateColumns(data, walshBlocks(block, block));
  return data;
}

export interface LayerRotations {
  readonly residual: Rotation; // Q
  readonly head: Rotation; // P
  readonly downSigns: Int8Array; // [F]
  readonly hadamard: HadamardSpec;
}

/** All rotations of a model. @param seed chooses the signs. */
export function layerRotations(config: LlamaConfig, seed: number): LayerRotations {
  return {
    residual: hadamardRotation(config.hiddenSize, seed),
    head: hadamardRotation(config.headDim, seed + 1),
    downSigns: hadamardRotation(config.intermediateSize, seed + 2).signs,
    hadamard: onlineHadamard(config),
  };
}

function copy({ weight, bias }: Linear): { readonly weight: Matrix; readonly bias: Float32Array | null } {
  return { weight: { ...weight, data: weight.data.slice() }, bias: bias?.slice() ?? null };
}

function multiplyColumns(weight: Matrix, factors: ArrayLike<number>): void {
  for (let i = 0; i < weight.data.length; i++) weight.data[i]! *= factors[i % weight.cols]!;
}

/** Qᵀ·(W, b). */
function rotateOutputs({ weight, bias }: Linear, rotation: Rotation, firstRow = 0): void {
  rotateRows(weight.data, weight.cols, rotation, firstRow);
  if (bias) rotateRows(bias, 1, rotation, firstRow);
}

/** One layer rotated; its norms' weights are 1. */
export function rotateLayer(
  layer: LayerWeights,
  config: LlamaConfig,
  rotations: LayerRotations,
): LayerWeights {
  const { residual, head, downSigns, hadamard } = rotations;
  const { numHeads, numKvHeads, headDim } = config;
  const [qkv, o, gateUp, down] = [layer.qkv, layer.o, layer.gateUp, layer.down].map(copy) as [
    Linear,
    Linear,
    Linear,
    Linear,
  ];
  for (const [linear, gamma] of [
    [qkv, layer.attnNorm],
    [gateUp, layer.mlpNorm],
  ] as const) {
    multiplyColumns(linear.weight, gamma);
    rotateColumns(linear.weight.data, residual);
  }
  for (let kv = 0; kv < numKvHeads; kv++) {
    rotateOutputs(qkv, head, (numHeads + numKvHeads + kv) * headDim);
  }
  rotateColumns(o.weight.data, head);
  rotateOutputs(o, residual);
  multiplyUp(gateUp, downSigns);
  multiplyColumns(down.weight, downSigns);
  rotateColumns(down.weight.data, walshBlocks(hadamard.downBlock, hadamard.downBlock));
  rotateOutputs(down, residual);
  const ones = new Float32Array(config.hiddenSize).fill(1);
  return { attnNorm: ones, qkv, o, mlpNorm: ones, gateUp, down };
}

/** Row 2f + 1 is up f. */
function multiplyUp({ weight, bias }: Linear, signs: Int8Array): void {
  signs.forEach((sign, f) => {
    const from = (2 * f + 1) * weight.cols;
    for (let i = from; i < from + weight.cols; i++) weight.data[i]! *= sign;
    if (bias) bias[2 * f + 1]! *= sign;
  });
}

/**
 * A checkpoint that reads as its rotated self. Embedding and head are no longer tied: the final norm's weight moves into
 * the head. Only embedding, final norm, head and whole layers can be read. @throws RangeError for odd sizes
 */
export class RotatedCheckpoint implements WeightSource {
  readonly config: LlamaConfig;
  readonly folder: string;
  readonly rotations: LayerRotations;
  readonly #source: WeightSource;

  constructor(source: WeightSource, seed: number) {
    this.#source = source;
    this.config = { ...source.config, tieWordEmbeddings: false };
    this.folder = source.folder;
    this.rotations = layerRotations(source.config, seed);
  }

  async rows(name: string, rowStart: number, rows: number): Promise<Float32Array> {
    if (name === 'final_norm.weight') return new Float32Array(rows).fill(1);
    if (name !== 'embed.weight' && name !== 'head.weight') throw new Error(`${name} is read with its layer`);
    const stored = this.#source.config.tieWordEmbeddings ? 'embed.weight' : name;
    const data = await this.#source.rows(stored, rowStart, rows);
    if (name === 'head.weight') {
      multiplyColumns(
        matrix(rows, this.config.hiddenSize, data),
        await this.#source.tensor('final_norm.weight'),
      );
    }
    rotateColumns(data, this.rotations.residual);
    return data;
  }

  tensor(name: string): Promise<Float32Array> {
    return this.rows(name, 0, name === 'final_norm.weight' ? this.config.hiddenSize : this.config.vocabSize);
  }

  async layer(index: number): Promise<LayerWeights> {
    return rotateLayer(await this.#source.layer(index), this.#source.config, this.rotations);
  }
}
