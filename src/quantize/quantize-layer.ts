/** One layer from float weights and calibration statistics to what the artifact stores, for every quantized scheme. */
import type { LlamaConfig } from '../format/config';
import type { HadamardSpec, LayerSpec } from '../format/manifest';
import { type ActBits, type ReconstructMode, type SchemeName, schemeModes } from '../format/scheme';
import { paddedInputs } from '../format/tensors';
import type { AsymmetricGrid } from './asymmetric';
import type { LayerStats, SiteStats } from './calibrate';
import type { ClipInputs, ClipLoss } from './clip';
import { foldScales, headGroupMax } from './fold';
import type { Site } from './forward';
import type { LayerWeights, Linear } from './layer';
import { type ClipSearch, hostClipSearch } from './layer-device';
import { type LinearProblem, mergedProblem, plainProblem, type SiteRows } from './linear-problem';
import type { Matrix } from './matrix';
import { hessianDiagonal, mergeNorm, migrateWeights, scaleColumns } from './migrate';
import { type Reconstruction, reconstruct } from './reconstruct';
import type { QuantizedMatrix, WeightQuantizer } from './rtn';
import { channelScales, tensorScales } from './scales';
import { type SmoothedSite, smoothSite } from './smooth';

export interface Method {
  readonly scheme: Exclude<SchemeName, 'fp16'>;
  readonly actBits: ActBits;
  readonly reconstruct: ReconstructMode;
  readonly alpha: number;
  readonly clipLoss: ClipLoss;
  /** The online rotation in front of down_proj; its static scales cannot be folded into up_proj then. */
  readonly hadamard: HadamardSpec | null;
  readonly quantizeWeights: WeightQuantizer;
  /** Where clip ratios are searched for; default: on the host. */
  readonly clip?: ClipSearch;
  /** Asymmetric levels that `quantizeWeights` rounds to; without them it is codes around 0 and one scale a row. */
  readonly weightGrid?: AsymmetricGrid | null;
  /** Exponent of SmoothQuant's migration in front of `tensor-static`. */
  readonly smooth?: number | null;
  /** Leaves activations unrounded: measures what the weights alone cost. */
  readonly floatActivations?: boolean;
}

/** A scheme that needs statistics was given none. */
export class CalibrationMissingError extends Error {
  override readonly name = 'CalibrationMissingError';
}

/** A norm in front of integers: its own weight, or the merged multipliers of Eq. 4 with the gather of Eq. 6. */
export type QuantizedNorm =
  | { readonly weight: Float32Array }
  | { readonly mult: Float32Array; readonly gather: Uint32Array; readonly offset: Int32Array | null };

export interface QuantizedLinear {
  readonly weight: QuantizedMatrix;
  readonly bias: Float32Array | null;
  /** W' before rounding [N, K'], for compensation. */
  readonly migrated?: Matrix;
}

export interface QuantizedLayer {
  readonly spec: LayerSpec;
  readonly attnNorm: QuantizedNorm;
  readonly qkv: QuantizedLinear;
  readonly o: QuantizedLinear;
  readonly mlpNorm: QuantizedNorm;
  readonly gateUp: QuantizedLinear;
  readonly down: QuantizedLinear;
}

interface NormSite {
  readonly norm: QuantizedNorm;
  readonly linear: QuantizedLinear;
  readonly inputs: number;
  readonly offsets: boolean;
  readonly act: number;
}

function searchOf({ clip }: Method): ClipSearch {
  return clip ?? hostClipSearch;
}

function clips({ clipLoss }: Method): boolean {
  return clipLoss !== 'none';
}

function clipInputs(stats: SiteStats, weights: Matrix, { actBits, weightGrid = null }: Method): ClipInputs {
  return { rows: stats.sample, absMax: stats.absMax, weights, actBits, weightGrid };
}

/** Every token that was kept, else the sample; without rows of their own the float targets are the rows. */
function siteRows({ sample, rows = [sample], targets = rows }: SiteStats): SiteRows {
  return { rows, targets };
}

async function quantizeLinear(
  linear: Linear,
  migrated: Matrix,
  problem: LinearProblem | null,
  method: Method,
): Promise<QuantizedLinear> {
  return { weight: await method.quantizeWeights(migrated, problem), bias: linear.bias, migrated };
}

/** The columns of a static site: per-channel scales clipped and reconstructed, or one scale for the whole tensor. */
async function staticColumns(stats: SiteStats, weights: Matrix, method: Method): Promise<Reconstruction> {
  const { actBits, alpha } = method;
  const inputs = clipInputs(stats, weights, method);
  const scales =
    method.scheme === 'tensor-static'
      ? tensorScales(stats.absMax, actBits, clips(method) ? await searchOf(method).tensor(inputs) : 1)
      : channelScales(stats.absMax, actBits, await searchOf(method).channels(inputs, method.clipLoss, alpha));
  return reconstruct(scales, {
    mode: method.scheme === 'tensor-static' ? 'none' : method.reconstruct,
    alpha,
    actBits,
    hessianDiagonal: hessianDiagonal(stats.sample, scales, actBits),
  });
}

/** A norm and the linear behind it. `stats` may be null only where the scheme is dynamic. */
async function quantizeNormSite(
  gamma: Float32Array,
  linear: Linear,
  stats: SiteStats | null,
  method: Method,
): Promise<NormSite> {
  const { actBits } = method;
  if (schemeModes[method.scheme].norm === 'dynamic') {
    const inputs = paddedInputs(gamma.length);
    const act =
      stats && clips(method) ? await searchOf(method).tokens(clipInputs(stats, linear.weight, method)) : 1;
    const problem =
      stats &&
      plainProblem(stats.sample, siteRows(stats), null, act, inputs, actBits, !method.floatActivations);
    const quantized = await quantizeLinear(
      linear,
      scaleColumns(linear.weight, null, inputs),
      problem,
      method,
    );
    return { norm: { weight: gamma }, linear: quantized, inputs, offsets: false, act };
  }
  const site = { gamma, linear, stats: required(stats, method) };
  const smooth = method.scheme === 'tensor-static' ? method.smooth : null;
  return quantizeStaticSite(smooth ? smoothSite(gamma, linear, site.stats, smooth) : site, method);
}

async function quantizeStaticSite({ gamma, linear, stats }: SmoothedSite, method: Method): Promise<NormSite> {
  const columns = await staticColumns(stats, linear.weight, method);
  const roundInputs = !method.floatActivations;
  const problem = mergedProblem(stats.sample, siteRows(stats), columns, method.actBits, roundInputs);
  const norm = { mult: mergeNorm(gamma, columns), gather: columns.gather, offset: columns.offsets };
  const quantized = await quantizeLinear(linear, migrateWeights(linear.weight, columns), problem, method);
  return { norm, linear: quantized, inputs: columns.gather.length, offsets: norm.offset !== null, act: 1 };
}

function required<T>(stats: T | null, method: Method): T {
  if (stats === null)
    throw new CalibrationMissingError(`scheme ${method.scheme} needs calibration statistics`);
  return stats;
}

/** o or down: what its quantizer is, and the columns' factors that went into its weight. */
async function quantizeProjection(
  linear: Linear,
  stats: SiteStats | null,
  folded: Float32Array | null,
  method: Method,
): Promise<{ readonly linear: QuantizedLinear; readonly act: number }> {
  const { actBits } = method;
  const width = paddedInputs(linear.weight.cols);
  const inputs = stats && clipInputs(stats, linear.weight, method);
  const mode = schemeModes[method.scheme].projection;
  let act = 1;
  let factors = folded;
  if (mode === 'dynamic' && inputs && clips(method)) act = await searchOf(method).tokens(inputs);
  if (mode === 'static' && !folded) {
    factors = tensorScales(
      required(stats, method).absMax,
      actBits,
      clips(method) ? await searchOf(method).tensor(required(inputs, method)) : 1,
    );
    act = factors[0]! > 0 ? factors[0]! : 1;
  }
  const problem =
    stats &&
    plainProblem(stats.sample, siteRows(stats), factors, act, width, actBits, !method.floatActivations);
  return {
    linear: await quantizeLinear(linear, scaleColumns(linear.weight, factors, width), problem, method),
    act,
  };
}

/** Per-channel scales of a projection's input, for folding into the linear that makes it. */
async function projectionScales(stats: SiteStats, weights: Matrix, method: Method): Promise<Float32Array> {
  const inputs = clipInputs(stats, weights, method);
  const ratios = await searchOf(method).channels(inputs, method.clipLoss, method.alpha);
  return channelScales(stats.absMax, method.actBits, ratios);
}

/**
 * Statistics of each site as the part of the layer that is quantized already feeds it, and the parts as they are done.
 * `unfold`: what o's or down's inputs were divided by in v or up.
 */
export interface QuantizedWalk {
  stats(site: Site, unfold?: Float32Array | null): Promise<SiteStats>;
  advance(site: Site, linear: QuantizedLinear, act: number, norm: QuantizedNorm | null): Promise<void>;
}

/**
 * Quantizes one layer.
 * @param stats of the float model; null only for `rtn-dynamic`, whose clip ratios are then 1.
 * @param walk when each site is fitted to what the quantized model feeds it
 * @throws CalibrationMissingError
 */
export async function quantizeLayer(
  layer: LayerWeights,
  stats: LayerStats | null,
  config: LlamaConfig,
  method: Method,
  walk: QuantizedWalk | null = null,
): Promise<QuantizedLayer> {
  let { qkv, gateUp } = layer;
  let oScales: Float32Array | null = null;
  let downScales: Float32Array | null = null;
  if (method.scheme === 'mergequant-static') {
    const { o, down } = required(stats, method);
    oScales = headGroupMax(await projectionScales(o, layer.o.weight, method), config);
    downScales = method.hadamard
      ? new Float32Array(config.intermediateSize).fill(1)
      : await projectionScales(down, layer.down.weight, method);
    ({ qkv, gateUp, oScales, downScales } = foldScales(layer, oScales, downScales, config));
    if (method.hadamard) downScales = null; // one step for all channels, which the rotation has made alike
  }
  const at = async (site: Site, unfold: Float32Array | null = null) =>
    walk ? walk.stats(site, unfold) : (stats?.[site] ?? null);
  const attn = await quantizeNormSite(layer.attnNorm, qkv, await at('attn'), method);
  await walk?.advance('attn', attn.linear, attn.act, attn.norm);
  const o = await quantizeProjection(layer.o, await at('o', oScales), oScales, method);
  await walk?.advance('o', o.linear, o.act, null);
  const mlp = await quantizeNormSite(layer.mlpNorm, gateUp, await at('mlp'), method);
  await walk?.advance('mlp', mlp.linear, mlp.act, mlp.norm);
  const down = await quantizeProjection(layer.down, await at('down', downScales), downScales, method);
  await walk?.advance('down', down.linear, down.act, null);
  return {
    spec: {
      attnInputs: attn.inputs,
      mlpInputs: mlp.inputs,
      attnOffsets: attn.offsets,
      mlpOffsets: mlp.offsets,
      attnAct: attn.act,
      oAct: o.act,
      mlpAct: mlp.act,
      downAct: down.act,
    },
    attnNorm: attn.norm,
    qkv: attn.linear,
    o: o.linear,
    mlpNorm: mlp.norm,
    gateUp: mlp.linear,
    down: down.linear,
  };
}
