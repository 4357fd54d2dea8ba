/**
 * What a quantized model loses, measured on the host while it is quantized: the test windows travel through the layers behind
 * the calibration tokens, so nothing is written and one layer is in memory at a time.
 */
import { setImmediate } from 'node:timers/promises';
import type { LlamaConfig } from '../format/config';
import type { CalibrationSet } from './calibration-data';
import { embedTokens } from './fake-forward';
import { type Block, forwardBlock, type RopeTable, rmsNorm, ropeTable, type Site } from './forward';
import { floatBlock } from './layer';
import { LayerCalibrator } from './layer-calibrator';
import { LayerCompensator } from './layer-compensator';
import { type Matrix, matrix } from './matrix';
import { calibratorOptions, type PrepareOptions } from './prepare-options';
import { LinearMap } from './products';
import { type Method, quantizeLayer } from './quantize-layer';
import { quantizedBlock } from './quantized-block';
import type { WeightSource } from './rotate';

/** The float model on the test windows. */
export interface Reference {
  readonly windows: readonly (readonly number[])[];
  readonly hidden: readonly Matrix[]; // last layer's output, per window [T, D]
  /** First window behind each layer, for the layers' errors. */
  readonly trail: readonly Matrix[]; // [T, D]
  readonly ppl: number;
  /** Largest over median channel maximum at each norm and projection, per layer. */
  readonly outlierRatios: readonly Readonly<Record<Site, number>>[];
}

export interface Loss {
  readonly ppl: number;
  /** Mean KL divergence from the float model's next-token distribution, in nats. */
  readonly kl: number;
  /** Part of positions with the float model's most likely token. */
  readonly top1: number;
  /** ‖x − x_float‖² / ‖x_float‖² of the residual stream behind each layer, first window. */
  readonly layerErrors: readonly number[];
  /** Columns that reconstruction added, over all layers. */
  readonly addedColumns: number;
  readonly quantizeSeconds: number;
}

async function embedWindows(source: WeightSource, windows: Reference['windows']): Promise<Matrix[]> {
  const { vocabSize, hiddenSize } = source.config;
  const embedding = matrix(vocabSize, hiddenSize, await source.tensor('embed.weight'));
  return windows.map((ids) => embedTokens(embedding, ids));
}

async function runBlock(block: Block, hidden: readonly Matrix[], config: LlamaConfig, rope: RopeTable) {
  for (const x of hidden) {
    await setImmediate();
    await forwardBlock(block, x, config, rope);
  }
}

const copyOf = (x: Matrix) => matrix(x.rows, x.cols, x.data.slice());

/** Largest over median of the channels' largest magnitudes. */
function channelRatio(absMax: Float32Array): number {
  const sorted = [...absMax].sort((a, b) => a - b);
  return sorted.at(-1)! / sorted[sorted.length >> 1]!;
}

/** Runs the float model over the windows. */
export async function floatReference(
  source: WeightSource,
  windows: Reference['windows'],
  hadamard: Method['hadamard'] = null,
): Promise<Reference> {
  const { config } = source;
  const hidden = await embedWindows(source, windows);
  const rope = ropeTable(config, Math.max(...windows.map(({ length }) => length)));
  const trail: Matrix[] = [];
  const outlierRatios: Record<Site, number>[] = [];
  for (let index = 0; index < config.numLayers; index++) {
    const block = await floatBlock(await source.layer(index), config.rmsNormEps, hadamard);
    const ratios = { attn: 0, o: 0, mlp: 0, down: 0 };
    const first = copyOf(hidden[0]!);
    await forwardBlock(block, first, config, rope, (site, rows) => {
      ratios[site] = channelRatio(channelMaxima(rows));
    });
    await runBlock(block, hidden, config, rope);
    block.dispose();
    trail.push(first);
    outlierRatios.push(ratios);
  }
  const { ppl } = await scoreHidden(source, { windows, hidden }, hidden);
  return { windows, hidden, trail, ppl, outlierRatios };
}

function channelMaxima(rows: Matrix): Float32Array {
  const absMax = new Float32Array(rows.cols);
  rows.data.forEach((value, i) => {
    absMax[i % rows.cols] = Math.max(absMax[i % rows.cols]!, Math.abs(value));
  });
  return absMax;
}

/** Logarithm of Σ exp and the largest entry of a row of logits. */
function logSumExp(row: Float32Array): { readonly log: number; readonly top: number } {
  let top = 0;
  for (let v = 1; v < row.length; v++) if (row[v]! > row[top]!) top = v;
  let sum = 0;
  for (const value of row) sum += Math.exp(value - row[top]!);
  return { log: row[top]! + Math.log(sum), top };
}

/** Σ_v p_v·(log p_v − log q_v) with p the reference's distribution. */
function divergence(p: Float32Array, logP: number, q: Float32Array, logQ: number): number {
  let sum = 0;
  for (let v = 0; v < p.length; v++) sum += Math.exp(p[v]! - logP) * (p[v]! - logP - (q[v]! - logQ));
  return sum;
}

/** Scores final hidden states against the windows' tokens and the float model's distributions. */
export async function scoreHidden(
  source: WeightSource,
  reference: Pick<Reference, 'windows' | 'hidden'>,
  hidden: readonly Matrix[],
): Promise<Pick<Loss, 'ppl' | 'kl' | 'top1'>> {
  const { config } = source;
  const gamma = await source.tensor('final_norm.weight');
  const headName = config.tieWordEmbeddings ? 'embed.weight' : 'head.weight';
  const head = await LinearMap.load(
    matrix(config.vocabSize, config.hiddenSize, await source.tensor(headName)),
  );
  const logits = (x: Matrix) => head.apply(rmsNorm(x, gamma, config.rmsNormEps));
  const totals = { nll: 0, kl: 0, same: 0, count: 0 };
  for (const [i, ids] of reference.windows.entries()) {
    await setImmediate();
    const own = await logits(hidden[i]!);
    const float = hidden[i] === reference.hidden[i] ? own : await logits(reference.hidden[i]!);
    for (let t = 0; t + 1 < ids.length; t++) {
      const [q, p] = [own, float].map(({ data, cols }) => data.subarray(t * cols, (t + 1) * cols)) as [
        Float32Array,
        Float32Array,
      ];
      const [ownSum, floatSum] = [logSumExp(q), logSumExp(p)];
      totals.nll += ownSum.log - q[ids[t + 1]!]!;
      totals.kl += divergence(p, floatSum.log, q, ownSum.log);
      totals.same += ownSum.top === floatSum.top ? 1 : 0;
      totals.count++;
    }
  }
  head.dispose();
  const { nll, kl, same, count } = totals;
  return { ppl: Math.exp(nll / count), kl: kl / count, top1: same / count };
}

function relativeError(x: Matrix, reference: Matrix): number {
  let error = 0;
  let norm = 0;
  for (let i = 0; i < x.data.length; i++) {
    error += (x.data[i]! - reference.data[i]!) ** 2;
    norm += reference.data[i]! ** 2;
  }
  return error / norm;
}

/** Columns above `channels`, counting neither padding nor what `prune` dropped elsewhere. */
function addedColumns(norm: object): number {
  if (!('gather' in norm) || !('mult' in norm)) return 0;
  const { gather, mult } = norm as { gather: Uint32Array; mult: Float32Array };
  const seen = new Set<number>();
  let added = 0;
  gather.forEach((channel, j) => {
    if (mult[j] === 0) return;
    if (seen.has(channel)) added++;
    seen.add(channel);
  });
  return added;
}

/** Quantizes layer by layer and measures. `source` and `reference.windows` speak of the same model, rotated or not. */
export async function measureMethod(
  source: WeightSource,
  set: CalibrationSet,
  options: PrepareOptions,
  method: Method,
  reference: Reference,
): Promise<Loss> {
  const { config } = source;
  const calibrator = await LayerCalibrator.create(source, set, calibratorOptions(options, method));
  const compensator = options.compensation && new LayerCompensator(options.compensation, config, method);
  const hidden = await embedWindows(source, reference.windows);
  const rope = ropeTable(config, Math.max(...reference.windows.map(({ length }) => length)));
  const layerErrors: number[] = [];
  let added = 0;
  let quantizeMs = 0;
  for (let index = 0; index < config.numLayers; index++) {
    const start = performance.now();
    const weights = await source.layer(index);
    const { stats, walk } = await calibrator.layer(weights);
    const quantize = () => quantizeLayer(weights, stats, config, method, walk);
    const quantized = await (compensator && walk
      ? compensator.layer(index, walk.hidden, calibrator.hidden, quantize)
      : quantize());
    quantizeMs += performance.now() - start;
    added += addedColumns(quantized.attnNorm) + addedColumns(quantized.mlpNorm);
    const block = await quantizedBlock(quantized, config, method);
    await runBlock(block, hidden, config, rope);
    block.dispose();
    const float = reference.trail[index];
    if (float) layerErrors.push(relativeError(hidden[0]!, float));
  }
  calibrator.dispose();
  const score = await scoreHidden(source, reference, hidden);
  return { ...score, layerErrors, addedColumns: added, quantizeSeconds: quantizeMs / 1000 };
}
