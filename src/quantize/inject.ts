/** Function-preserving outliers: strong norm channels whose columns are weak by the same factor. */

import { seededRandom } from '../format/random';
import type { LayerWeights, Linear } from './layer';
import type { WeightSource } from './rotate';
import type { GammaInjection } from './suite-row';

function divideColumns({ weight, bias }: Linear, channels: ReadonlySet<number>, factor: number): Linear {
  const { cols } = weight;
  const data = weight.data.map((value, i) => (channels.has(i % cols) ? value / factor : value));
  return { weight: { ...weight, data }, bias };
}

/** A checkpoint with γ_k × c on some channels and column k of what the norm feeds divided by c. Powers of two are exact. */
export class InjectedCheckpoint implements WeightSource {
  readonly #channels: ReadonlySet<number>;

  constructor(
    readonly source: WeightSource,
    readonly injection: GammaInjection,
    seed: number,
  ) {
    const { hiddenSize } = source.config;
    const next = seededRandom(seed);
    const channels = new Set<number>();
    const count = Math.max(1, Math.round(injection.share * hiddenSize));
    while (channels.size < count) channels.add(Math.floor(next() * hiddenSize));
    this.#channels = channels;
  }

  get config() {
    return this.source.config;
  }

  get folder() {
    return this.source.folder;
  }

  rows(name: string, rowStart: number, rows: number): Promise<Float32Array> {
    return this.source.rows(name, rowStart, rows);
  }

  tensor(name: string): Promise<Float32Array> {
    return this.source.tensor(name);
  }

  async layer(index: number): Promise<LayerWeights> {
    const layer = await this.source.layer(index);
    const { factor } = this.injection;
    const strong = (gamma: Float32Array) => gamma.map((v, k) => (this.#channels.has(k) ? v * factor : v));
    return {
      ...layer,
      attnNorm: strong(layer.attnNorm),
      qkv: divideColumns(layer.qkv, this.#channels, factor),
      mlpNorm: strong(layer.mlpNorm),
      gateUp: divideColumns(layer.gateUp, this.#channels, factor),
    };
  }
}
