/** The test windows' way through the quantized layers, on the host or beside the calibration tokens on a device. */
import { setImmediate } from 'node:timers/promises';
import type { LlamaConfig } from '../format/config';
import { embedTokens } from './fake-forward';
import { type Block, forwardBlock, type RopeTable, ropeTable } from './forward';
import type { LayerWeights } from './layer';
import type { BlockStream } from './layer-compensator';
import type { LayerDevice } from './layer-device';
import { type Matrix, matrix } from './matrix';
import { calibratorOptions, type PrepareOptions } from './prepare-options';
import type { Method, QuantizedLayer } from './quantize-layer';
import { quantizedBlock } from './quantized-block';
import type { WeightSource } from './rotate';

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
export function windowAngles(config: LlamaConfig, windows: Windows): RopeTable {
  return ropeTable(config, Math.max(...windows.map(({ length }) => length)));
}

/** One block over every window; each is replaced by the block's output. */
export async function runBlock(
  block: Block,
  hidden: readonly Matrix[],
  config: LlamaConfig,
  rope: RopeTable,
): Promise<void> {
  for (const x of hidden) {
    await setImmediate();
    await forwardBlock(block, x, config, rope);
  }
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

/** On the device, in a calibrator of their own: its float pass is spent, its quantized stream is what is asked for. */
export async function deviceWindows(
  source: WeightSource,
  windows: Windows,
  device: LayerDevice,
  options: PrepareOptions,
  method: Method,
): Promise<TestStream> {
  const tokens = windows.reduce((sum, { length }) => sum + length, 0);
  const calibrator = await device.calibrator(
    source,
    { sequences: windows, tokens, files: [] },
    { ...calibratorOptions(options, method), propagate: 'quantized', keepRows: false },
  );
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
