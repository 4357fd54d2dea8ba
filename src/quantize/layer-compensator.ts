/** Compensation inside the walk through the layers: trains each one, and takes the quantized stream through the result. */
import type { LlamaConfig } from '../format/config';
import { type CompensationOptions, compensateLayer, type OnEpoch } from './compensate';
import { compensationKey, loadCompensated, saveCompensated } from './compensation-store';
import { forwardBlock, ropeTable } from './forward';
import { type Matrix, matrix } from './matrix';
import type { Method, QuantizedLayer } from './quantize-layer';
import { quantizedBlock } from './quantized-block';

/** What is asked for, where finished layers are kept so that a run can go on, and who is told about losses. */
export interface CompensationRun {
  readonly settings: CompensationOptions;
  readonly folder?: string;
  readonly onEpoch?: (layer: number, ...epoch: Parameters<OnEpoch>) => void;
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
  async layer(
    index: number,
    stream: readonly Matrix[],
    targets: readonly Matrix[],
    quantize: () => Promise<QuantizedLayer>,
  ): Promise<QuantizedLayer> {
    const { config, method } = this;
    const inputs = stream.map((x) => matrix(x.rows, x.cols, x.data.slice()));
    const layer = await this.#train(index, await quantize(), inputs, targets);
    const rope = ropeTable(config, Math.max(...stream.map(({ rows }) => rows)));
    const block = await quantizedBlock(layer, config, method);
    for (const [i, x] of stream.entries()) {
      x.data.set(inputs[i]!.data);
      await forwardBlock(block, x, config, rope);
    }
    block.dispose();
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
    const key = folder && compensationKey(quantized, inputs, targets, method, settings);
    const found = folder && key ? loadCompensated(folder, index, key, quantized) : null;
    if (found) return found;
    const told: OnEpoch = (...epoch) => run.onEpoch?.(index, ...epoch);
    const { layer } = await compensateLayer(quantized, inputs, targets, config, method, settings, told);
    if (folder && key) saveCompensated(folder, index, key, layer);
    return layer;
  }
}
