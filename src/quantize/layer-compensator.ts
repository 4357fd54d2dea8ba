/** Compensation inside the walk through the layers: trains each one, and takes the quantized stream through the result. */
import type { LlamaConfig } from '../format/config';
import { type CompensationOptions, compensateLayer, type OnEpoch, type TrainingTry } from './compensate';
import { compensationKey, loadCompensated, saveCompensated } from './compensation-store';
import { forwardBlock, ropeTable } from './forward';
import { type Matrix, matrix } from './matrix';
import type { Method, QuantizedLayer } from './quantize-layer';
import { quantizedBlock } from './quantized-block';

/** What is asked for, where finished layers are kept so that a run can go on, and who is told about losses. */
export interface CompensationRun {
  readonly settings: CompensationOptions;
  /** Calibration sequences that are trained on; default: all. */
  readonly sequences?: number;
  readonly folder?: string;
  readonly onEpoch?: (layer: number, ...epoch: Parameters<OnEpoch>) => void;
  readonly onTry?: (layer: number, training: TrainingTry) => void;
}

/** A layer's two streams, on the host or on a device. */
export interface BlockStream {
  /** `count` sequences, evenly spread, of the quantized model in front of the layer; to be asked before it is quantized. */
  inputs(count: number): Promise<readonly Matrix[]>;
  /** The same sequences of the float model behind it. */
  targets(count: number): Promise<readonly Matrix[]>;
  /** Sets the quantized model's stream to what `layer` makes of its inputs. */
  rerun(layer: QuantizedLayer): Promise<void>;
  /** The first `count` sequences of the quantized model behind the layer, once `rerun` is done. */
  outputs(count: number): Promise<readonly Matrix[]>;
}

/** At most `count` of the numbers below `total`, evenly spread: a calibration set's files come one after the other. */
export function spread(total: number, count: number): number[] {
  const length = Math.min(total, count);
  return Array.from({ length }, (_, i) => Math.floor((i * total) / length));
}

/** Streams in memory; `stream` is what `rerun` replaces. */
export function hostStream(
  stream: readonly Matrix[],
  targets: readonly Matrix[],
  config: LlamaConfig,
  method: Method,
): BlockStream {
  const before = stream.map((x) => matrix(x.rows, x.cols, x.data.slice()));
  return {
    inputs: async (count) => spread(before.length, count).map((i) => before[i]!),
    targets: async (count) => spread(targets.length, count).map((i) => targets[i]!),
    rerun: async (layer) => {
      const rope = ropeTable(config, Math.max(...stream.map(({ rows }) => rows)));
      const block = await quantizedBlock(layer, config, method);
      for (const [i, x] of stream.entries()) {
        x.data.set(before[i]!.data);
        await forwardBlock(block, x, config, rope);
      }
      block.dispose();
    },
    outputs: async (count) => stream.slice(0, count),
  };
}

export class LayerCompensator {
  constructor(
    readonly run: CompensationRun,
    readonly config: LlamaConfig,
    readonly method: Method,
  ) {}

  /**
   * Quantizes a layer and compensates it. `stream` is set to the result's output.
   * @param stream the quantized model's activations in front of the layer, [T, D] per sequence
   * @param targets the float model's behind it
   */
  layer(
    index: number,
    stream: readonly Matrix[],
    targets: readonly Matrix[],
    quantize: () => Promise<QuantizedLayer>,
  ): Promise<QuantizedLayer> {
    return this.onStream(index, hostStream(stream, targets, this.config, this.method), quantize);
  }

  /** The same on streams that may lie on a device. */
  async onStream(
    index: number,
    stream: BlockStream,
    quantize: () => Promise<QuantizedLayer>,
  ): Promise<QuantizedLayer> {
    const { sequences = Number.POSITIVE_INFINITY } = this.run;
    const inputs = await stream.inputs(sequences);
    const quantized = await quantize();
    const layer = await this.#train(index, quantized, inputs, await stream.targets(sequences));
    await stream.rerun(layer);
    return layer;
  }

  async #train(
    index: number,
    quantized: QuantizedLayer,
    inputs: readonly Matrix[],
    targets: readonly Matrix[],
  ): Promise<QuantizedLayer> {
    const { config, method, run } = this;
    const { settings, folder } = run;
    const block = { layer: quantized, inputs, targets, config, method };
    const key = folder && compensationKey(block, settings);
    const found = folder && key ? loadCompensated(folder, index, key, quantized) : null;
    if (found) return found;
    const { layer } = await compensateLayer(block, settings, {
      onEpoch: (...epoch) => run.onEpoch?.(index, ...epoch),
      onTry: (training) => run.onTry?.(index, training),
    });
    if (folder && key) saveCompensated(folder, index, key, layer);
    return layer;
  }
}
