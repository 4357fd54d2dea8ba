/**
 * What a quantized model loses, measured while it is quantized, on the host or a device: the test windows travel through the layers behind
 * the calibration tokens, so nothing is written and one layer is in memory at a time.
 */
import type { CalibrationSet } from './calibration-data';
import type { Reference } from './float-reference';
import { LayerCompensator } from './layer-compensator';
import { type Scores, scoreHidden } from './logit-scores';
import type { Matrix } from './matrix';
import { calibratorOf } from './prepare-layers';
import type { PrepareOptions } from './prepare-options';
import { type Method, type QuantizedNorm, quantizeLayer } from './quantize-layer';
import type { WeightSource } from './rotate';
import { deviceWindows, hostWindows } from './test-stream';

export interface Loss extends Scores {
  /** ‖x − x_float‖² / ‖x_float‖² of the residual stream behind each layer, first window. */
  readonly layerErrors: readonly number[];
  /** Of the measured checkpoint's float model, rotations and injections included; see `Reference`. */
  readonly outlierRatios: Reference['outlierRatios'];
  /** Columns that reconstruction added, over all layers. */
  readonly addedColumns: number;
  readonly quantizeSeconds: number;
}

/** ‖x − reference‖² / ‖reference‖² without the first tokens. */
function relativeError(x: Matrix, reference: Matrix, prefixTokens = 0): number {
  let error = 0;
  let norm = 0;
  for (let i = prefixTokens * x.cols; i < x.data.length; i++) {
    error += (x.data[i]! - reference.data[i]!) ** 2;
    norm += reference.data[i]! ** 2;
  }
  return error / norm;
}

/** Columns that repeat a channel, without padding. Columns that `prune` dropped in exchange are not taken off. */
function addedColumns(norm: QuantizedNorm): number {
  if (!('mult' in norm)) return 0;
  const { gather, mult } = norm;
  const used = gather.filter((_, j) => mult[j] !== 0);
  return used.length - new Set(used).size;
}

/**
 * Quantizes layer by layer and measures. `source` and `reference` speak of the same function; `reference.trail` and
 * `reference.outlierRatios` are in `source`'s basis, rotated or not.
 */
export async function measureMethod(
  source: WeightSource,
  set: CalibrationSet,
  options: PrepareOptions,
  method: Method,
  reference: Reference,
): Promise<Loss> {
  const { config } = source;
  const { windows, trail, outlierRatios } = reference;
  const calibrator = await calibratorOf(source, set, options, method);
  const compensator = options.compensation && new LayerCompensator(options.compensation, config, method);
  const tests = await (options.device
    ? deviceWindows(source, windows, options.device, options, method)
    : hostWindows(source, windows, method));
  const layerErrors: number[] = [];
  let added = 0;
  let quantizeMs = 0;
  for (let index = 0; index < config.numLayers; index++) {
    const start = performance.now();
    const weights = await source.layer(index);
    const { stats, walk, stream } = await calibrator.layer(weights);
    const quantize = () => quantizeLayer(weights, stats, config, method, walk);
    const quantized = await (compensator && stream
      ? compensator.onStream(index, stream, quantize)
      : quantize());
    quantizeMs += performance.now() - start;
    added += addedColumns(quantized.attnNorm) + addedColumns(quantized.mlpNorm);
    await tests.pass(weights, quantized);
    const [first] = await tests.read(1);
    layerErrors.push(relativeError(first!, trail[index]!, options.prefix));
  }
  calibrator.dispose();
  const score = await scoreHidden(source, reference, await tests.read(windows.length), options.device);
  tests.dispose();
  return { ...score, layerErrors, outlierRatios, addedColumns: added, quantizeSeconds: quantizeMs / 1000 };
}
