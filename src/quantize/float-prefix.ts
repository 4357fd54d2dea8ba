/**
 * Float prefix tokens, beyond the paper: the tokens that every sequence begins with (a BOS, most often) draw attention to
 * themselves in many models and have the strongest activations. Their keys and values depend on nothing else, so those of the
 * float model are stored and put in the cache, and neither ranges nor weights are fitted to these positions.
 */
import type { HadamardSpec } from '../format/manifest';
import { hasPrefix } from '../format/prefix';
import { forwardBlock, ropeTable } from './forward';
import { floatBlock, type LayerWeights } from './layer';
import { embedSequences } from './layer-calibrator';
import type { Matrix } from './matrix';
import { prefixRows } from './prefix-rows';
import type { WeightSource } from './rotate';

/** Sequences that do not begin with the same tokens, or layers asked for out of order. */
export class PrefixError extends Error {
  override readonly name = 'PrefixError';
}

/** The first `count` tokens of every sequence. @throws PrefixError where they differ */
export function sharedPrefix(sequences: readonly (readonly number[])[], count: number): readonly number[] {
  const prefix = sequences[0]!.slice(0, count);
  const other = sequences.findIndex((ids) => !hasPrefix(ids, prefix));
  if (prefix.length === count && other < 0) return prefix;
  const found = other < 0 ? prefix : sequences[other]!.slice(0, count + 1);
  throw new PrefixError(
    `prefix: expected every calibration sequence to go on behind tokens ${prefix.join(' ')}, found ${found.join(' ')}`,
  );
}

/** A checkpoint whose layers know the float prefix's keys and values; they are computed as layers are read, from 0 on. */
export class PrefixedCheckpoint implements WeightSource {
  readonly config: WeightSource['config'];
  readonly folder: string;
  #hidden: Matrix | null = null;
  #next = 0;

  constructor(
    readonly source: WeightSource,
    readonly ids: readonly number[],
    readonly hadamard: HadamardSpec | null,
  ) {
    this.config = source.config;
    this.folder = source.folder;
  }

  rows: WeightSource['rows'] = (...range) => this.source.rows(...range);

  tensor: WeightSource['tensor'] = (...names) => this.source.tensor(...names);

  /** @throws PrefixError when layers are not asked for in order; layer 0 begins anew */
  async layer(index: number): Promise<LayerWeights> {
    const { config, ids, hadamard } = this;
    if (index === 0) {
      this.#next = 0;
      const set = { sequences: [ids], tokens: ids.length, files: [] };
      [this.#hidden = null] = await embedSequences(this.source, set);
    }
    if (index !== this.#next || !this.#hidden) {
      throw new PrefixError(`prefix: expected layer ${this.#next} next, layer ${index} was asked for`);
    }
    this.#next++;
    const weights = await this.source.layer(index);
    const block = await floatBlock(weights, config.rmsNormEps, hadamard);
    const width = 2 * config.numKvHeads * config.headDim;
    let prefix: Matrix | undefined;
    const kept = {
      ...block,
      qkv: async (input: Matrix) => {
        const qkv = await block.qkv(input);
        prefix = prefixRows(qkv, width);
        return qkv;
      },
    };
    await forwardBlock(kept, this.#hidden, config, ropeTable(config, ids.length));
    block.dispose();
    return { ...weights, qkv: { ...weights.qkv, ...(prefix && { prefix }) } };
  }
}
