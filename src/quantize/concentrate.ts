/**
 * A function-preserving rotation of the residual stream that makes outliers instead of removing them: Q's columns are the
 * principal axes of the normalized stream, so that few channels hold most of its energy. RMSNorm without a weight commutes
 * with Q, as in the Hadamard variant (rotate.ts): embedding E·Q, q,k,v and gate,up W·diag(γ)·Q, o and down Qᵀ·W, head
 * W·diag(γ)·Q. Real models have such channels; this one has not, and reconstruction (Eq. 6) has nothing to do without them.
 */
import { forwardBlock, rmsNorm, ropeTable } from './forward';
import type { LayerWeights, Linear } from './layer';
import { floatBlock } from './layer';
import { type Matrix, matrix } from './matrix';
import { multiplyTransposed, principalAxes } from './products';
import type { WeightSource } from './rotate';
import { embedWindows } from './test-stream';

/** Σ x̂ᵀx̂ over the inputs of all norms, x̂ = x/RMS(x): [D, D] in float64. */
async function normedMoment(source: WeightSource, sequences: readonly (readonly number[])[]) {
  const { config } = source;
  const D = config.hiddenSize;
  const moment = new Float64Array(D * D);
  const ones = new Float32Array(D).fill(1);
  const add = (x: Matrix) => {
    const { data, rows } = rmsNorm(x, ones, config.rmsNormEps);
    for (let t = 0; t < rows; t++) {
      const row = data.subarray(t * D, (t + 1) * D);
      for (let i = 0; i < D; i++) for (let j = 0; j <= i; j++) moment[i * D + j]! += row[i]! * row[j]!;
    }
  };
  const hidden = await embedWindows(source, sequences);
  const rope = ropeTable(config, Math.max(...sequences.map(({ length }) => length)));
  for (let index = 0; index < config.numLayers; index++) {
    const block = await floatBlock(await source.layer(index), config.rmsNormEps);
    for (const x of hidden) {
      add(x);
      await forwardBlock(block, x, config, rope);
    }
    block.dispose();
  }
  return Float32Array.from(moment, (_, at) => {
    const [i, j] = [Math.floor(at / D), at % D];
    return moment[Math.max(i, j) * D + Math.min(i, j)]!;
  });
}

/** Qᵀ [D, D]: row k is the axis that becomes channel k. */
export async function energyAxes(
  source: WeightSource,
  sequences: readonly (readonly number[])[],
): Promise<Matrix> {
  const D = source.config.hiddenSize;
  return principalAxes(matrix(D, D, await normedMoment(source, sequences)));
}

function transposed({ rows, cols, data }: Matrix): Matrix {
  return matrix(
    cols,
    rows,
    Float32Array.from(data, (_, i) => data[(i % rows) * cols + Math.floor(i / rows)]!),
  );
}

function timesGamma({ rows, cols, data }: Matrix, gamma: Float32Array): Matrix {
  return matrix(
    rows,
    cols,
    data.map((value, i) => value * gamma[i % cols]!),
  );
}

/** A checkpoint that reads as its rotated self; embedding and head are no longer tied. */
export class ConcentratedCheckpoint implements WeightSource {
  readonly config: WeightSource['config'];
  readonly folder: string;

  /** @param axes Qᵀ, see {@link energyAxes} */
  constructor(
    readonly source: WeightSource,
    readonly axes: Matrix,
  ) {
    this.config = { ...source.config, tieWordEmbeddings: false };
    this.folder = source.folder;
  }

  async rows(name: string, rowStart: number, rows: number): Promise<Float32Array> {
    if (name === 'final_norm.weight') return new Float32Array(rows).fill(1);
    const isHead = name === 'head.weight';
    const stored = isHead && this.source.config.tieWordEmbeddings ? 'embed.weight' : name;
    const weight = matrix(rows, this.config.hiddenSize, await this.source.rows(stored, rowStart, rows));
    const scaled = isHead ? timesGamma(weight, await this.source.tensor('final_norm.weight')) : weight;
    return (await multiplyTransposed(scaled, this.axes)).data;
  }

  tensor(name: string): Promise<Float32Array> {
    return this.rows(name, 0, name === 'final_norm.weight' ? this.config.hiddenSize : this.config.vocabSize);
  }

  async layer(index: number): Promise<LayerWeights> {
    const { attnNorm, qkv, o, mlpNorm, gateUp, down } = await this.source.layer(index);
    const ones = new Float32Array(this.config.hiddenSize).fill(1);
    return {
      attnNorm: ones,
      qkv: await this.#inputs(qkv, attnNorm),
      o: await this.#outputs(o),
      mlpNorm: ones,
      gateUp: await this.#inputs(gateUp, mlpNorm),
      down: await this.#outputs(down),
    };
  }

  /** W·diag(γ)·Q. */
  async #inputs({ weight, bias }: Linear, gamma: Float32Array): Promise<Linear> {
    return { weight: await multiplyTransposed(timesGamma(weight, gamma), this.axes), bias };
  }

  /** Qᵀ·(W, b). */
  async #outputs({ weight, bias }: Linear): Promise<Linear> {
    const { axes } = this;
    const rotated = bias && (await multiplyTransposed(axes, matrix(1, bias.length, bias))).data;
    return { weight: await multiplyTransposed(axes, transposed(weight)), bias: rotated };
  }
}
