/**
 * Quantization compensation of MergeQuant (arXiv 2503.07654 §3.4): each block's weights become quant(W' + A·B), A·B of low
 * rank (or whole), trained so that the quantized block, fed by the quantized blocks before it, gives the float block's
 * output: min ‖Block_q(x_q) − Block(x)‖². A·B is folded into the integers; nothing of it remains at run time.
 */
import { setImmediate } from 'node:timers/promises';
import { jit, numpy as np, tree, valueAndGrad } from '@jax-js/jax';
import type { LlamaConfig } from '../format/config';
import { normalNumbers, seededRandom } from '../format/random';
import { schemeModes } from '../format/scheme';
import {
  type AdamOptions,
  type AdamSchedule,
  type AdamState,
  adamDefaults,
  adamSchedule,
  adamState,
  adamStep,
  type Parameters,
} from './adamw';
import { layerArrays } from './compensation-arrays';
import { foldTrained } from './compensation-fold';
import { InFlight } from './in-flight';
import type { Matrix } from './matrix';
import type { Method, QuantizedLayer } from './quantize-layer';
import { type Batch, type BlockArrays, type BlockShape, blockLoss, linearNames } from './trainable-block';
import { makeBatches } from './training-batches';
import { onDevice, type TrainingDevice } from './training-device';

export interface CompensationOptions {
  /** Rank of A·B, or `full` for a whole matrix. */
  readonly rank: number | 'full';
  readonly epochs: number;
  /** Learning rate at the start, in steps of the weight's integer grid; it falls to 0 along a half cosine. */
  readonly rate: number;
  /** AdamW's λ. */
  readonly decay: number;
  /** Rows of tokens, each as long as the longest sequence, in one step; `auto`: see `autoBatchRows`. */
  readonly batchRows: number | 'auto';
  /** Train the weights' row scales, too. */
  readonly learnScales: boolean;
  /** Further tries, each from the start at a quarter of the rate before, for a layer whose loss has not fallen. */
  readonly retries: number;
  readonly seed: number;
  readonly device: TrainingDevice;
}

/** Chosen by measurement, see docs/LOG.md. */
export const compensationDefaults: CompensationOptions = {
  rank: 'full',
  epochs: 6,
  rate: 0.02,
  decay: 0.01,
  batchRows: 'auto',
  learnScales: true,
  retries: 1,
  seed: 1,
  device: 'wasm',
};

/** What a layer is trained on. */
export interface BlockProblem {
  readonly layer: QuantizedLayer;
  /** The quantized model's stream in front of the layer, [T, D] per sequence. */
  readonly inputs: readonly Matrix[];
  /** The float model's behind it. */
  readonly targets: readonly Matrix[];
  readonly config: LlamaConfig;
  readonly method: Method;
}

/** Told after each epoch; `loss` is the mean of its steps relative to the loss before training. */
export type OnEpoch = (epoch: number, epochs: number, loss: number) => void;

/** Told after each try. */
export interface TrainingTry {
  readonly rate: number;
  /** Behind training, relative to the loss before it; below 1 it is kept. */
  readonly loss: number;
  /** Rate of the next try, or null. */
  readonly next: number | null;
}

export interface TrainingListener {
  readonly onEpoch?: OnEpoch;
  readonly onTry?: (training: TrainingTry) => void;
}

export interface CompensatedLayer {
  /** Its `trainedRate` says which try it comes from. */
  readonly layer: QuantizedLayer;
  /** Mean squared error of the block's output before and after. */
  readonly before: number;
  readonly after: number;
}

/** A and B with A·B = 0, or a zero matrix; and the row scales' logarithmic growth. */
function initialParameters(layer: QuantizedLayer, options: CompensationOptions): Parameters {
  const normal = normalNumbers(seededRandom(options.seed));
  const parameters: Parameters = {};
  for (const name of linearNames) {
    const { rows, cols, scales } = layer[name].weight;
    if (options.rank === 'full') parameters[`${name}.delta`] = np.zeros([rows, cols]);
    else {
      const { rank } = options;
      const b = Float32Array.from({ length: rank * cols }, () => normal() / Math.sqrt(rank));
      parameters[`${name}.a`] = np.zeros([rows, rank]);
      parameters[`${name}.b`] = np.array(b).reshape([rank, cols]);
    }
    if (options.learnScales) parameters[`${name}.growth`] = np.zeros([rows, scales.length / rows]);
  }
  return parameters;
}

/** Of the rate, from one try to the next. */
const retryFactor = 0.25;

/** Growth is a relative change: a tenth of the rate, which is in steps of codes up to 7, is alike. */
function rateFactor(name: string): number {
  return name.endsWith('.growth') ? 0.1 : 1;
}

export function blockShape(config: LlamaConfig, method: Method): BlockShape {
  const { norm, projection } = schemeModes[method.scheme];
  return {
    config,
    actBits: method.actBits,
    weightBits: method.weightGrid?.bits ?? 4,
    normMode: norm,
    projectionMode: projection,
    hadamardBlock: method.hadamard?.downBlock ?? null,
    rounds: true,
  };
}

/** Compiled functions of one block shape: the loss, and a step of AdamW. */
function compile(shape: BlockShape, options: AdamOptions) {
  const loss = (parameters: Parameters, constants: BlockArrays, batch: Batch) =>
    blockLoss(shape, parameters, constants, batch);
  const step = (
    parameters: Parameters,
    state: AdamState,
    constants: BlockArrays,
    batch: Batch,
    schedule: AdamSchedule,
  ) => {
    const [value, gradients] = valueAndGrad(loss)(tree.ref(parameters), constants, batch);
    const next = adamStep(parameters, gradients as Parameters, state, schedule, rateFactor, options);
    return { value, ...next };
  };
  return { loss: jit(loss), step: jit(step) };
}

type Compiled = ReturnType<typeof compile>;

let latest: { readonly key: string; readonly compiled: Compiled } | null = null;

/** `compile`, once for all layers of a model: tracing and the device's compiler take seconds. */
function compiledFor(shape: BlockShape, options: AdamOptions, device: TrainingDevice): Compiled {
  const key = JSON.stringify([shape, options, device]);
  if (latest?.key !== key) latest = { key, compiled: compile(shape, options) };
  return latest.compiled;
}

/** Steps whose loss has not come back yet: the next one is put together while the device works. Each keeps its arrays alive. */
const stepsInFlight = 2;

async function meanLoss(
  compiled: Compiled,
  parameters: Parameters,
  constants: BlockArrays,
  batches: readonly Batch[],
): Promise<number> {
  const losses = new InFlight(stepsInFlight);
  for (const batch of batches) {
    await losses.add(compiled.loss(tree.ref(parameters), tree.ref(constants), tree.ref(batch)));
    await setImmediate();
  }
  return (await losses.takeSum()) / batches.length;
}

/** Fisher–Yates on the batch numbers. */
function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

async function train(
  compiled: Compiled,
  start: Parameters,
  constants: BlockArrays,
  batches: readonly Batch[],
  options: CompensationOptions,
  before: number,
  onEpoch: OnEpoch,
): Promise<Parameters> {
  const random = seededRandom(options.seed + 1);
  const adam = { ...adamDefaults, decay: options.decay };
  const total = options.epochs * batches.length;
  let parameters = start;
  let state = adamState(start);
  let step = 0;
  const losses = new InFlight(stepsInFlight);
  for (let epoch = 1; epoch <= options.epochs; epoch++) {
    for (const i of shuffled(batches.length, random)) {
      const rate = options.rate * 0.5 * (1 + Math.cos((Math.PI * step) / total));
      step++;
      const schedule = adamSchedule(rate, step, adam);
      const next = compiled.step(parameters, state, tree.ref(constants), tree.ref(batches[i]!), schedule);
      ({ parameters, state } = next);
      await losses.add(next.value);
      await setImmediate();
    }
    onEpoch(epoch, options.epochs, (await losses.takeSum()) / batches.length / before);
  }
  tree.dispose(state);
  return parameters;
}

/**
 * Trains one layer's compensation. When the loss has not fallen in any try, the layer is returned as it was.
 */
export function compensateLayer(
  block: BlockProblem,
  options: CompensationOptions,
  listener: TrainingListener = {},
): Promise<CompensatedLayer> {
  return onDevice(options.device, () => trainLayer(block, options, listener));
}

async function trainLayer(
  { layer, inputs, targets, config, method }: BlockProblem,
  options: CompensationOptions,
  { onEpoch = () => {}, onTry = () => {} }: TrainingListener,
): Promise<CompensatedLayer> {
  const { constants, units } = layerArrays(layer, config, method);
  const batches = makeBatches(inputs, targets, config, options.batchRows, layer.qkv.prefix?.rows);
  const adam = { ...adamDefaults, decay: options.decay };
  const compiled = compiledFor(blockShape(config, method), adam, options.device);
  const untrained = initialParameters(layer, options);
  const before = await meanLoss(compiled, untrained, constants, batches);
  tree.dispose(untrained);
  let result: CompensatedLayer | null = null;
  for (let retry = 0; retry <= options.retries && !result; retry++) {
    const rate = options.rate * retryFactor ** retry;
    const start = initialParameters(layer, options);
    const own = { ...options, rate };
    const parameters = await train(compiled, start, constants, batches, own, before, onEpoch);
    const after = await meanLoss(compiled, parameters, constants, batches);
    const better = after < before;
    const next = better || retry === options.retries ? null : rate * retryFactor;
    onTry({ rate, loss: after / before, next });
    if (better) {
      const trained = await foldTrained(layer, units, parameters);
      result = { layer: { ...trained, trainedRate: rate }, before, after };
    }
    tree.dispose(parameters);
  }
  for (const arrays of [constants, ...batches]) tree.dispose(arrays);
  return result ?? { layer: { ...layer, trainedRate: null }, before, after: before };
}
