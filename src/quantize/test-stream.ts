/** The test windows' way through float or quantized layers, on the host or beside the calibration tokens on a device. */
import { setImmediate } from 'node:timers/promises';
import type { LlamaConfig } from '../format/config';
import { siteWidths } from './calibrate';
import { embedTokens } from './fake-forward';
import { type Block, forwardBlock, type RopeTable, ropeTable, type Site } from './forward';
import { floatBlock, type LayerWeights } from './layer';
import type { LayerCalibratorOptions } from './layer-calibrator';
import type { BlockStream } from './layer-compensator';
import type { Calibrator, LayerDevice } from './layer-device';
import { type Matrix, matrix } from './matrix';
import { calibratorOptions, type PrepareOptions } from './prepare-options';
import type { Method, QuantizedLayer } from './quantize-layer';
import { quantizedBlock } from './quantized-block';
import type { WeightSource } from './rotate';
import { updateAbsMax } from './scales';

type Windows = readonly (readonly number[])[];

export interface TestStream {
  /** Takes all windows through one quantized layer. @param weights the layer's float weights */
  pass(weights: LayerWeights, quantized: QuantizedLayer): Promise<void>;
  /** The first `count` windows' hidden states [T, D] as they are now. */
  read(count: number): Promise<readonly Matrix[]>;
  dispose(): void;
}

/** Embeddings of each window [T, D]. */
export async function embedWindows(source: WeightSource, windows: Windows): Promise<Matrix[]> {
  const { vocabSize, hiddenSize } = source.config;
  const embedding = matrix(vocabSize, hiddenSize, await source.tensor('embed.weight'));
  return windows.map((ids) => embedTokens(embedding, ids));
}

/** Rotation angles for the longest window. */
function windowAngles(config: LlamaConfig, windows: Windows): RopeTable {
  return ropeTable(config, Math.max(...windows.map(({ length }) => length)));
}

/** One block over every window; each is replaced by the block's output. */
async function runBlock(
  block: Block,
  hidden: readonly Matrix[],
  config: LlamaConfig,
  rope: RopeTable,
  observe?: (site: Site, rows: Matrix) => void,
): Promise<void> {
  for (const x of hidden) {
    await setImmediate();
    await forwardBlock(block, x, config, rope, observe);
  }
}

/** The float model's way: `pass` gives the channels' largest magnitudes at each site, over all windows. */
export interface FloatStream {
  pass(weights: LayerWeights): Promise<Record<Site, Float32Array>>;
  /** The first `count` windows' hidden states [T, D] as they are now, in arrays of their own. */
  read(count: number): Promise<readonly Matrix[]>;
  dispose(): void;
}

export async function hostFloatStream(
  source: WeightSource,
  windows: Windows,
  hadamard: Method['hadamard'],
): Promise<FloatStream> {
  const { config } = source;
  const hidden = await embedWindows(source, windows);
  const rope = windowAngles(config, windows);
  const widths = siteWidths(config);
  return {
    pass: async (weights) => {
      const block = await floatBlock(weights, config.rmsNormEps, hadamard);
      const channels = (site: Site) => new Float32Array(widths[site]);
      const most = { attn: channels('attn'), o: channels('o'), mlp: channels('mlp'), down: channels('down') };
      await runBlock(block, hidden, config, rope, (site, rows) => updateAbsMax(most[site], rows));
      block.dispose();
      return most;
    },
    read: async (count) =>
      hidden.slice(0, count).map(({ rows, cols, data }) => matrix(rows, cols, data.slice())),
    dispose: () => {},
  };
}

/** On the host with exact integers. */
export async function hostWindows(
  source: WeightSource,
  windows: Windows,
  method: Method,
): Promise<TestStream> {
  const { config } = source;
  const hidden = await embedWindows(source, windows);
  const rope = windowAngles(config, windows);
  return {
    pass: async (_, quantized) => {
      const block = await quantizedBlock(quantized, config, method);
      await runBlock(block, hidden, config, rope);
      block.dispose();
    },
    read: async (count) => hidden.slice(0, count),
    dispose: () => {},
  };
}

/** A calibrator whose sequences are the test windows. */
function windowCalibrator(
  source: WeightSource,
  windows: Windows,
  device: LayerDevice,
  options: Omit<LayerCalibratorOptions, 'propagate' | 'keepRows'>,
): Promise<Calibrator> {
  const tokens = windows.reduce((sum, { length }) => sum + length, 0);
  const set = { sequences: windows, tokens, files: [] };
  return device.calibrator(source, set, { ...options, propagate: 'quantized', keepRows: false });
}

/** On the device: the float pass of a calibrator, whose quantized stream stays where it is. */
export async function deviceFloatStream(
  source: WeightSource,
  windows: Windows,
  device: LayerDevice,
  hadamard: Method['hadamard'],
): Promise<FloatStream> {
  const rounding = { scheme: 'rtn-dynamic', actBits: 8 } as const; // nothing is rounded: the quantized stream stays where it is
  const options = { seed: 1, rounding, hadamard, spill: null };
  const calibrator = await windowCalibrator(source, windows, device, options);
  let stream: BlockStream | null = null;
  return {
    pass: async (weights) => {
      const calibrated = await calibrator.layer(weights);
      stream = calibrated.stream;
      const { attn, o, mlp, down } = calibrated.stats;
      return { attn: attn.absMax, o: o.absMax, mlp: mlp.absMax, down: down.absMax };
    },
    read: async (count) => (await stream?.targets(count)) ?? [],
    dispose: () => calibrator.dispose(),
  };
}

/** On the device, in a calibrator of their own: its float pass is spent, its quantized stream is what is asked for. */
export async function deviceWindows(
  source: WeightSource,
  windows: Windows,
  device: LayerDevice,
  options: PrepareOptions,
  method: Method,
): Promise<TestStream> {
  const calibrator = await windowCalibrator(source, windows, device, calibratorOptions(options, method));
  let stream: BlockStream | null = null;
  return {
    pass: async (weights, quantized) => {
      ({ stream } = await calibrator.layer(weights));
      await stream!.inputs(0);
      await stream!.rerun(quantized);
    },
    read: async (count) => (await stream?.outputs(count)) ?? [],
    dispose: () => calibrator.dispose(),
  };
}
