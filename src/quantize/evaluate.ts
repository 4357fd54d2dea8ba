/**
 * What a quantized model loses, measured on the host while it is quantized: the test windows travel through the layers behind
 * the calibration tokens, so nothing is written and one layer is in memory at a time.
 */
import { setImmediate } from 'node:timers/promises';
import type { CalibrationSet } from './calibration-data';
import { forwardBlock, rmsNorm, type Site } from './forward';
import { floatBlock } from './layer';
import { LayerCompensator } from './layer-compensator';
import { type Matrix, matrix } from './matrix';
import { calibratorOf } from './prepare-layers';
import type { PrepareOptions } from './prepare-options';
import { LinearMap } from './products';
import { type Method, quantizeLayer } from './quantize-layer';
import type { WeightSource } from './rotate';
import { channelAbsMax } from './scales';
import { deviceWindows, embedWindows, hostWindows, runBlock, windowAngles } from './test-stream';

/** The float model on the test windows. */
export interface Reference {
  /** Whose norm and head make logits of `hidden`. */
  readonly source: WeightSource;
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
  /** Of the measured checkpoint's float model, rotations and injections included; see `Reference`. */
  readonly outlierRatios: Reference['outlierRatios'];
  /** Columns that reconstruction added, over all layers. */
  readonly addedColumns: number;
  readonly quantizeSeconds: number;
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
  const rope = windowAngles(config, windows);
  const trail: Matrix[] = [];
  const outlierRatios: Record<Site, number>[] = [];
  for (let index = 0; index < config.numLayers; index++) {
    const block = await floatBlock(await source.layer(index), config.rmsNormEps, hadamard);
    const ratios = { attn: 0, o: 0, mlp: 0, down: 0 };
    const first = copyOf(hidden[0]!);
    await forwardBlock(block, first, config, rope, (site, rows) => {
      ratios[site] = channelRatio(channelAbsMax(rows));
    });
    await runBlock(block, hidden, config, rope);
    block.dispose();
    trail.push(first);
    outlierRatios.push(ratios);
  }
  const { ppl } = await scoreHidden(source, { source, windows, hidden }, hidden);
  return { source, windows, hidden, trail, ppl, outlierRatios };
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

/** Final norm and head of a model. */
async function headOf(source: WeightSource) {
  const { config } = source;
  const gamma = await source.tensor('final_norm.weight');
  const name = config.tieWordEmbeddings ? 'embed.weight' : 'head.weight';
  const map = await LinearMap.load(matrix(config.vocabSize, config.hiddenSize, await source.tensor(name)));
  return {
    logits: (x: Matrix) => map.apply(rmsNorm(x, gamma, config.rmsNormEps)),
    dispose: () => map.dispose(),
  };
}

/** Scores final hidden states against the windows' tokens and the float model's distributions. */
export async function scoreHidden(
  source: WeightSource,
  reference: Pick<Reference, 'source' | 'windows' | 'hidden'>,
  hidden: readonly Matrix[],
): Promise<Pick<Loss, 'ppl' | 'kl' | 'top1'>> {
  const head = await headOf(source);
  const floatHead = reference.source === source ? head : await headOf(reference.source);
  const totals = { nll: 0, kl: 0, same: 0, count: 0 };
  for (const [i, ids] of reference.windows.entries()) {
    await setImmediate();
    const own = await head.logits(hidden[i]!);
    const float = hidden[i] === reference.hidden[i] ? own : await floatHead.logits(reference.hidden[i]!);
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
  if (floatHead !== head) floatHead.dispose();
  const { nll, kl, same, count } = totals;
  return { ppl: Math.exp(nll / count), kl: kl / count, top1: same / count };
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
  const score = await scoreHidden(source, reference, await tests.read(windows.length));
  tests.dispose();
  return { ...score, layerErrors, outlierRatios, addedColumns: added, quantizeSeconds: quantizeMs / 1000 };
}
