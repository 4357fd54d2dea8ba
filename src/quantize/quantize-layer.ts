/** One layer from float weights and calibration statistics to what the artifact stores, for every quantized scheme. */
import type { LlamaConfig } from '../format/config';
import type { LayerSpec } from '../format/manifest';
import { type ActBits, type ReconstructMode, type SchemeName, schemeModes } from '../format/scheme';
import { paddedInputs } from '../format/tensors';
import type { LayerStats, SiteStats } from './calibrate';
import { type ClipInputs, type ClipLoss, clipChannels, clipTensor, clipTokens } from './clip';
import { foldScales, headGroupMax } from './fold';
import type { LayerWeights, Linear } from './layer';
import type { Matrix } from './matrix';
import { hessianDiagonal, mergeNorm, migrateWeights, scaleColumns, siteIntegers } from './migrate';
import { type Reconstruction, reconstruct } from './reconstruct';
import type { QuantizedMatrix, WeightQuantizer } from './rtn';
import { channelScales, tensorScales } from './scales';

export interface Method {
  readonly scheme: Exclude<SchemeName, 'fp16'>;
  readonly actBits: ActBits;
  readonly reconstruct: ReconstructMode;
  readonly alpha: number;
  readonly clipLoss: ClipLoss;
  readonly quantizeWeights: WeightQuantizer;
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

function clipInputs(stats: SiteStats, weights: Matrix, actBits: ActBits): ClipInputs {
  return { rows: stats.sample, absMax: stats.absMax, weights, actBits };
}

/** Sample rows as the linear multiplies them, up to a token's own scale: divided by static steps, padded as the weights. */
function linearInputs(rows: Matrix, steps: Float32Array | null, width: number): Matrix {
  return scaleColumns(rows, steps?.map((step) => 1 / step) ?? null, width);
}

function quantizeLinear(
  linear: Linear,
  migrated: Matrix,
  inputs: Matrix | null,
  method: Method,
): QuantizedLinear {
  return { weight: method.quantizeWeights(migrated, inputs), bias: linear.bias };
}

/** The columns of a static site: per-channel scales clipped and reconstructed, or one scale for the whole tensor. */
async function staticColumns(stats: SiteStats, weights: Matrix, method: Method): Promise<Reconstruction> {
  const { actBits, alpha } = method;
  const inputs = clipInputs(stats, weights, actBits);
  const scales =
    method.scheme === 'tensor-static'
      ? tensorScales(stats.absMax, actBits, await clipTensor(inputs))
      : channelScales(stats.absMax, actBits, clipChannels(inputs, method.clipLoss, alpha));
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
    const act = stats ? await clipTokens(clipInputs(stats, linear.weight, actBits)) : 1;
    const rows = stats && linearInputs(stats.sample, null, inputs);
    const quantized = quantizeLinear(linear, scaleColumns(linear.weight, null, inputs), rows, method);
    return { norm: { weight: gamma }, linear: quantized, inputs, offsets: false, act };
  }
  const columns = await staticColumns(required(stats, method), linear.weight, method);
  const integers = siteIntegers(required(stats, method).sample, columns, actBits);
  const norm = { mult: mergeNorm(gamma, columns), gather: columns.gather, offset: columns.offsets };
  const quantized = quantizeLinear(linear, migrateWeights(linear.weight, columns), integers, method);
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
  const inputs = stats && clipInputs(stats, linear.weight, actBits);
  const mode = schemeModes[method.scheme].projection;
  let act = 1;
  let factors = folded;
  if (mode === 'dynamic' && inputs) act = await clipTokens(inputs);
  if (mode === 'static' && !folded) {
    factors = tensorScales(
      required(stats, method).absMax,
      actBits,
      await clipTensor(required(inputs, method)),
    );
    act = factors[0]! > 0 ? factors[0]! : 1;
  }
  const rows = stats && linearInputs(stats.sample, factors, width);
  return { linear: quantizeLinear(linear, scaleColumns(linear.weight, factors, width), rows, method), act };
}

/** Per-channel scales of a projection's input, for folding into the linear that makes it. */
function projectionScales(stats: SiteStats, weights: Matrix, method: Method): Float32Array {
  const inputs = clipInputs(stats, weights, method.actBits);
  return channelScales(stats.absMax, method.actBits, clipChannels(inputs, method.clipLoss, method.alpha));
}

/**
 * Quantizes one layer.
 * @param stats null only for `rtn-dynamic`, whose clip ratios are then 1.
 * @throws CalibrationMissingError
 */
export async function quantizeLayer(
  layer: LayerWeights,
  stats: LayerStats | null,
  config: LlamaConfig,
  method: Method,
): Promise<QuantizedLayer> {
  let { qkv, gateUp } = layer;
  let oScales: Float32Array | null = null;
  let downScales: Float32Array | null = null;
  if (method.scheme === 'mergequant-static') {
    const { o, down } = required(stats, method);
    oScales = headGroupMax(projectionScales(o, layer.o.weight, method), config);
    downScales = projectionScales(down, layer.down.weight, method);
    ({ qkv, gateUp, oScales, downScales } = foldScales(layer, oScales, downScales, config));
  }
  const attn = await quantizeNormSite(layer.attnNorm, qkv, stats?.attn ?? null, method);
  const o = await quantizeProjection(layer.o, stats?.o ?? null, oScales, method);
  const mlp = await quantizeNormSite(layer.mlpNorm, gateUp, stats?.mlp ?? null, method);
  const down = await quantizeProjection(layer.down, stats?.down ?? null, downScales, method);
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
