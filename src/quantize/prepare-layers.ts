/** The layers of a run one after the other: calibrated, quantized, compensated, written each as a part. Node only. */
import type { LayerSpec, QuantSpec } from '../format/manifest';
import type { CalibrationSet } from './calibration-data';
import { writeLayer } from './export';
import type { FinishedLayers } from './finished-layers';
import type { LayerWeights } from './layer';
import { LayerCalibrator } from './layer-calibrator';
import { hostStream, LayerCompensator } from './layer-compensator';
import type { CalibratedLayer, Calibrator } from './layer-device';
import type { Part, PartManifest } from './parts';
import { calibratorOptions, methodOf, type PrepareOptions } from './prepare-options';
import { type Method, type QuantizedLayer, quantizeLayer } from './quantize-layer';
import { layerTensors, readLayer } from './read-layer';
import type { WeightSource } from './rotate';
import { Stopwatch } from './stopwatch';

/** Told after each finished layer. */
export type OnLayer = (done: number, total: number) => void;

/** What the parts of a run share. */
export type PartCommon = Omit<
  PartManifest,
  'format' | 'range' | 'quant' | 'clip' | 'rates' | 'shards' | 'maxTensorBytes'
>;

/** @param prefix ids of float prefix tokens */
export function quantSpec(
  options: PrepareOptions,
  method: Method,
  prefix: readonly number[] | null,
  layers: readonly LayerSpec[],
): QuantSpec {
  const { reconstruct, hadamard } = method;
  const alpha = reconstruct === 'none' ? null : options.alpha;
  const grid = method.weightGrid ?? null;
  const weightGrid = grid && { groupSize: grid.groupSize };
  const { actBits } = options;
  const zeros = method.zeroPoints ? ({ zeroPoints: true } as const) : {};
  return {
    ...{ actBits, weightBits: grid?.bits ?? 4, weightGrid, reconstruct, alpha, hadamard },
    ...zeros,
    ...(prefix && { prefix: { ids: prefix } }),
    layers,
  };
}

/**
 * The host's, or the device's.
 * @param withStreams hand out the streams around each layer, at the price of a copy
 */
export async function calibratorOf(
  checkpoint: WeightSource,
  set: CalibrationSet,
  options: PrepareOptions,
  method: Method,
  withStreams = Boolean(options.compensation),
): Promise<Calibrator> {
  const settings = calibratorOptions(options, method);
  if (options.device) return options.device.calibrator(checkpoint, set, settings);
  const host = await LayerCalibrator.create(checkpoint, set, settings);
  const { config } = checkpoint;
  return {
    layer: async (weights) => {
      const { stats, walk } = await host.layer(weights);
      const stream = withStreams && walk ? hostStream(walk.hidden, host.hidden, config, method) : null;
      return { stats, walk, stream };
    },
    dispose: () => host.dispose(),
  };
}

/** Takes the quantized stream through a layer that is done already; the float one has passed it. */
async function replay({ stream }: CalibratedLayer, part: Part, index: number): Promise<void> {
  if (!stream) return; // float propagation
  await stream.inputs(0);
  await stream.rerun(readLayer(part, index));
}

export interface LayerRun {
  readonly checkpoint: WeightSource;
  readonly set: CalibrationSet | null;
  readonly options: PrepareOptions;
  readonly common: PartCommon;
  /** Float prefix tokens, which the checkpoint's layers know. */
  readonly prefix: readonly number[] | null;
  readonly finished: FinishedLayers;
  /** Parts of the layers in front of the range, where their quantized stream is followed. */
  readonly earlier: readonly Part[];
  readonly onLayer: OnLayer;
}

/** Parts of `[from, end)`, those found and those made now. */
export async function prepareLayers(run: LayerRun): Promise<readonly Part[]> {
  const { checkpoint, set, options, finished, earlier } = run;
  const { config } = checkpoint;
  const [from, end] = options.layers ?? [0, config.numLayers];
  const done = Array.from({ length: end }, (_, index) => (index < from ? null : finished.find(index)));
  const last = done.lastIndexOf(null);
  const isOpen = last >= from;
  const method = methodOf(options, config, set !== null);
  const calibrator =
    set && isOpen ? await calibratorOf(checkpoint, set, options, method, last > 0 || undefined) : null;
  const maker = new LayerMaker(run, method);
  try {
    for (let index = 0; index < end; index++) {
      const part = done[index] ?? earlierPart(earlier, index);
      const mustMake = index >= from && !done[index];
      if (isOpen && index <= last && (mustMake || calibrator)) {
        const { stopwatch: watch = new Stopwatch() } = options;
        const weights = await watch.time('read', () => checkpoint.layer(index));
        const calibrated = await watch.time('calibrate', async () => calibrator?.layer(weights));
        if (mustMake) done[index] = await maker.make(index, weights, calibrated ?? null);
        else if (part && calibrated) await watch.time('replay', () => replay(calibrated, part, index));
      }
      run.onLayer(index + 1, end);
    }
  } finally {
    calibrator?.dispose();
  }
  return done.slice(from) as Part[];
}

function earlierPart(parts: readonly Part[], index: number): Part | null {
  return parts.find(({ manifest: { range } }) => range[0] <= index && index < range[1]) ?? null;
}

/** Quantizes, compensates and writes layers. */
class LayerMaker {
  readonly #compensator: LayerCompensator | null;

  constructor(
    readonly run: LayerRun,
    readonly method: Method,
  ) {
    const { options, checkpoint } = run;
    const { compensation } = options;
    this.#compensator = compensation ? new LayerCompensator(compensation, checkpoint.config, method) : null;
  }

  async make(index: number, weights: LayerWeights, calibrated: CalibratedLayer | null): Promise<Part> {
    const { options, finished } = this.run;
    const { stopwatch: watch = new Stopwatch() } = options;
    const quantized = await this.#quantized(index, weights, calibrated, watch);
    return watch.time('write', () => finished.save(index, (writer) => this.#write(writer, index, quantized)));
  }

  #quantized(
    index: number,
    weights: LayerWeights,
    calibrated: CalibratedLayer | null,
    watch: Stopwatch,
  ): Promise<QuantizedLayer> {
    const { stats = null, walk = null, stream = null } = calibrated ?? {};
    const { config } = this.run.checkpoint;
    const quantize = () =>
      watch.time('quantize', () => quantizeLayer(weights, stats, config, this.method, walk));
    const compensator = this.#compensator;
    if (!compensator || !stream) return quantize();
    return watch.time('compensate', () => compensator.onStream(index, stream, quantize));
  }

  async #write(...[writer, index, quantized]: [Parameters<typeof writeLayer>[0], number, QuantizedLayer]) {
    const { options, common, prefix } = this.run;
    const quant = quantSpec(options, this.method, prefix, [quantized.spec]);
    await writeLayer(writer, quantized, layerTensors(common, quant, index, quantized.spec));
    const range = [index, index + 1] as const;
    const { clip, trainedRate } = quantized;
    const rates = trainedRate === undefined ? {} : { rates: [trainedRate] };
    return { format: 'mergequant-part' as const, ...common, range, quant, clip: [clip], ...rates };
  }
}
