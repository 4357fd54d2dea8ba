/** Where the heavy parts of preparing a layer run: the host is the exact reference, a GPU makes a 7B model practicable. */
import type { KeptRows, LayerStats } from './calibrate';
import type { CalibrationSet } from './calibration-data';
import { type ClipInputs, type ClipLoss, clipChannels, clipTensor, clipTokens } from './clip';
import type { GptqOptions } from './gptq';
import type { LayerWeights } from './layer';
import type { LayerCalibratorOptions } from './layer-calibrator';
import type { BlockStream } from './layer-compensator';
import type { Head, LogitScorer } from './logit-scores';
import type { Matrix } from './matrix';
import type { QuantizedWalk } from './quantize-layer';
import type { WeightSource } from './rotate';
import type { WeightQuantizer } from './rtn';

/** The clip searches of src/quantize/clip.ts. */
export interface ClipSearch {
  channels(inputs: ClipInputs, loss: ClipLoss, alpha: number): Promise<Float32Array>;
  tokens(inputs: ClipInputs): Promise<number>;
  tensor(inputs: ClipInputs): Promise<number>;
}

export const hostClipSearch: ClipSearch = {
  channels: async (inputs, loss, alpha) => clipChannels(inputs, loss, alpha),
  tokens: clipTokens,
  tensor: clipTensor,
};

/** One layer's float statistics and, where the quantized stream is followed, the walk through its quantized parts. */
export interface CalibratedLayer {
  readonly stats: LayerStats;
  readonly walk: QuantizedWalk | null;
  /** Both streams around the layer, for compensation; null without a walk. */
  readonly stream: BlockStream | null;
}

/** Takes the calibration tokens through the layers: `layer` is called for each in order, its result used before the next. */
export interface Calibrator {
  layer(weights: LayerWeights): Promise<CalibratedLayer>;
  dispose(): void;
}

export interface LayerDevice {
  /** Goes into the artifact's provenance: results differ from the host's in the last bits. */
  readonly name: string;
  readonly clip: ClipSearch;
  gptq(options: GptqOptions): WeightQuantizer;
  calibrator(
    checkpoint: WeightSource,
    set: CalibrationSet,
    options: LayerCalibratorOptions,
  ): Promise<Calibrator>;
  /** Logits and what is summed over them, of test windows. `reference` may be `own`. */
  scorer(own: Head, reference: Head): Promise<LogitScorer>;
}

/** Rows were kept on a device and asked for on the host. */
export class DeviceRowsError extends Error {
  override readonly name = 'DeviceRowsError';
}

/** @throws DeviceRowsError */
export function hostRows(rows: KeptRows): Iterable<Matrix> {
  if (Symbol.iterator in rows) return rows;
  throw new DeviceRowsError('these activations lie on a device: quantize weights there, too');
}
