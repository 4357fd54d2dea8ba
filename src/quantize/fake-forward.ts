/** Runs an artifact on the host with the kernels' arithmetic (exact integers, float scales): measures what it loses. */
import type { LlamaConfig } from '../format/config';
import { hasPrefix } from '../format/prefix';
import { type ActivationMode, schemeModes } from '../format/scheme';
import { type Artifact, floats } from './artifact-reader';
import { type Block, forwardBlock, type RopeTable, rmsNorm, ropeTable } from './forward';
import { logSumExp } from './logit-scores';
import { clamp, intRange, type Matrix, matrix, roundHalfEven } from './matrix';
import { tokenIntegers } from './migrate';
import { withPrefix } from './prefix-rows';
import { LinearMap } from './products';
import { onlineRotation } from './rotate';

type Apply = (x: Matrix) => Promise<Matrix>;

/** q = clamp(round(x/step)): the static quantizer in front of o and down. */
function staticIntegers(x: Matrix, step: number, actBits: number): Matrix {
  const { min, max } = intRange(actBits);
  return matrix(
    x.rows,
    x.cols,
    x.data.map((value) => clamp(roundHalfEven(value / step), min, max)),
  );
}

function padColumns(x: Matrix, width: number): Matrix {
  if (x.cols === width) return x;
  const out = matrix(x.rows, width);
  for (let t = 0; t < x.rows; t++) {
    out.data.set(x.data.subarray(t * x.cols, (t + 1) * x.cols), t * width);
  }
  return out;
}

class ArtifactLayer {
  readonly maps: LinearMap[] = [];

  constructor(
    readonly artifact: Artifact,
    readonly layer: number,
  ) {}

  tensor(name: string): Float32Array {
    return floats(this.artifact, `layers.${this.layer}.${name}`);
  }

  has(name: string): boolean {
    return this.artifact.tensors.has(`layers.${this.layer}.${name}`);
  }

  /** A linear with its input quantizer. `integers`: the input is integers already. */
  async linear(name: string, mode: ActivationMode | 'integers', act: number): Promise<Apply> {
    const weight = this.tensor(`${name}.weight`);
    const bias = this.has(`${name}.bias`) ? this.tensor(`${name}.bias`) : null;
    const scale = this.has(`${name}.scale`) ? this.tensor(`${name}.scale`) : null;
    const isDense = !scale && !this.has(`${name}.grid`);
    const rows = this.outputs(name);
    const map = await LinearMap.load(matrix(rows, weight.length / rows, weight), isDense ? bias : null);
    this.maps.push(map);
    if (isDense) return (x) => map.apply(x);
    const actBits = this.artifact.manifest.quant!.actBits;
    return async (x) => {
      const padded = padColumns(x, map.inputs);
      const dynamic = mode === 'dynamic' ? tokenIntegers(padded, act, actBits) : null;
      const integers =
        dynamic?.integers ?? (mode === 'integers' ? padded : staticIntegers(padded, act, actBits));
      const y = await map.apply(integers);
      for (let i = 0; i < y.data.length; i++) {
        const n = i % rows;
        y.data[i] =
          y.data[i]! * (scale?.[n] ?? 1) * (dynamic?.scales[Math.floor(i / rows)] ?? 1) + (bias?.[n] ?? 0);
      }
      return y;
    };
  }

  outputs(name: string): number {
    const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = this.artifact.manifest.config;
    if (name === 'qkv') return (numHeads + 2 * numKvHeads) * headDim;
    return name === 'gate_up' ? 2 * intermediateSize : hiddenSize;
  }

  /** A norm: floats, or q = clamp(round(x[gather]·mult/RMS) + offset). */
  norm(name: string): (x: Matrix) => Matrix {
    const { config, quant } = this.artifact.manifest;
    if (this.has(`${name}.weight`)) {
      const gamma = this.tensor(`${name}.weight`);
      return (x) => rmsNorm(x, gamma, config.rmsNormEps);
    }
    const mult = this.tensor(`${name}.mult`);
    const gather = this.artifact.tensors.get(`layers.${this.layer}.${name}.gather`) as Uint32Array;
    const offset = this.has(`${name}.offset`) ? this.tensor(`${name}.offset`) : null;
    const { min, max } = intRange(quant!.actBits);
    const ones = new Float32Array(config.hiddenSize).fill(1);
    return (x) => {
      const normed = rmsNorm(x, ones, config.rmsNormEps);
      const out = matrix(x.rows, mult.length);
      for (let i = 0; i < out.data.length; i++) {
        const j = i % mult.length;
        const value = normed.data[Math.floor(i / mult.length) * x.cols + gather[j]!]! * mult[j]!;
        out.data[i] = clamp(roundHalfEven(value) + (offset?.[j] ?? 0), min, max);
      }
      return out;
    };
  }
}

/** A block, and the keys and values of the artifact's float prefix. */
interface HostBlock extends Block {
  readonly prefix?: Matrix | null;
  dispose(): void;
}

/** Keys and values of the float prefix [P, 2·Hkv·Dh]. */
function prefixOf(artifact: Artifact, index: number): Matrix | null {
  const { prefix } = artifact.manifest.quant ?? {};
  if (!prefix) return null;
  const data = floats(artifact, `layers.${index}.prefix`);
  return matrix(prefix.ids.length, data.length / prefix.ids.length, data);
}

async function artifactBlock(artifact: Artifact, index: number): Promise<HostBlock> {
  const layer = new ArtifactLayer(artifact, index);
  const spec = artifact.manifest.quant?.layers[index];
  const modes = schemeModes[artifact.manifest.scheme];
  const hadamard = artifact.manifest.quant?.hadamard;
  const normMode = modes.norm === 'static' ? 'integers' : modes.norm;
  return {
    attnInput: layer.norm('attn_norm'),
    qkv: await layer.linear('qkv', normMode, spec?.attnAct ?? 1),
    o: await layer.linear('o', modes.projection, spec?.oAct ?? 1),
    mlpInput: layer.norm('mlp_norm'),
    gateUp: await layer.linear('gate_up', normMode, spec?.mlpAct ?? 1),
    ...(hadamard && { downInput: (gated: Matrix) => onlineRotation(gated, hadamard) }),
    down: await layer.linear('down', modes.projection, spec?.downAct ?? 1),
    prefix: prefixOf(artifact, index),
    dispose: () => {
      for (const map of layer.maps) map.dispose();
    },
  };
}

/** Logits of whole sequences, kept layer by layer: one layer's weights at a time. */
export interface HostModel {
  readonly config: LlamaConfig;
  readonly embedding: Matrix; // [V, D]
  readonly finalNorm: Float32Array; // [D]
  readonly head: Matrix; // [V, D]
  /** Tokens whose keys and values blocks take from the artifact; none without. */
  readonly prefix?: readonly number[] | null;
  block(layer: number): Promise<HostBlock>;
}

export function artifactModel(artifact: Artifact): HostModel {
  const { config } = artifact.manifest;
  const dense = (name: string) => matrix(config.vocabSize, config.hiddenSize, floats(artifact, name));
  const embedding = dense('embed.weight');
  return {
    config,
    embedding,
    finalNorm: floats(artifact, 'final_norm.weight'),
    head: config.tieWordEmbeddings ? embedding : dense('head.weight'),
    prefix: artifact.manifest.quant?.prefix?.ids ?? null,
    block: (layer) => artifactBlock(artifact, layer),
  };
}

/** Rows of the embedding: [T, D]. */
export function embedTokens(embedding: Matrix, tokenIds: ArrayLike<number>): Matrix {
  const { cols: D } = embedding;
  const out = matrix(tokenIds.length, D);
  for (let t = 0; t < tokenIds.length; t++) {
    const id = tokenIds[t]!;
    out.data.set(embedding.data.subarray(id * D, (id + 1) * D), t * D);
  }
  return out;
}

/** Logits [T, V] of each sequence, each from position 0. */
export async function logits(model: HostModel, sequences: readonly ArrayLike<number>[]): Promise<Matrix[]> {
  const { config } = model;
  const longest = Math.max(...sequences.map(({ length }) => length));
  const rope: RopeTable = ropeTable(config, longest);
  const hidden = sequences.map((tokenIds) => embedTokens(model.embedding, tokenIds));
  for (let layer = 0; layer < config.numLayers; layer++) {
    const block = await model.block(layer);
    for (const [i, x] of hidden.entries()) {
      const rows = model.prefix && hasPrefix(sequences[i]!, model.prefix) ? block.prefix : null;
      await forwardBlock(rows ? withPrefix(block, rows) : block, x, config, rope);
    }
    block.dispose();
  }
  const head = await LinearMap.load(model.head);
  const out: Matrix[] = [];
  for (const x of hidden) out.push(await head.apply(rmsNorm(x, model.finalNorm, config.rmsNormEps)));
  head.dispose();
  return out;
}

/** exp of the mean negative log likelihood of every token after its sequence's first. */
export async function perplexity(model: HostModel, sequences: readonly ArrayLike<number>[]): Promise<number> {
  let total = 0;
  let count = 0;
  for (const [i, { data, cols }] of (await logits(model, sequences)).entries()) {
    const tokenIds = sequences[i]!;
    for (let t = 0; t + 1 < tokenIds.length; t++) {
      const row = data.subarray(t * cols, (t + 1) * cols);
      total += logSumExp(row).log - row[tokenIds[t + 1]!]!;
      count++;
    }
  }
  return Math.exp(total / count);
}
