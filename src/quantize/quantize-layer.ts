/** One layer from float weights and calibration statistics to what the artifact stores, for every quantized scheme. */
import type { LlamaConfig } from '../format/config';
import { schemeModes } from '../format/scheme';
import { paddedInputs } from '../format/tensors';
import { blockScales } from './block-scales';
import type { LayerStats, SiteStats } from './calibrate';
import { foldScales, headGroupMax } from './fold';
import type { Site } from './forward';
import type { LayerWeights, Linear } from './layer';
import { plainProblem } from './linear-problem';
import type { Matrix } from './matrix';
import type { Method, QuantizedLayer, QuantizedLinear, QuantizedWalk } from './method';
import { scaleColumns } from './migrate';
import {
  clipInputs,
  clips,
  clipsTokens,
  quantizeLinear,
  required,
  searchOf,
  siteRows,
} from './quantize-linear';
import { channelScales, tensorScales } from './scales';
import { type NormSite, quantizeStaticSite } from './static-site';

export * from './method';

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
      stats && clipsTokens(method)
        ? await searchOf(method).tokens(clipInputs(stats, linear.weight, method))
        : 1;
    const problem =
      stats &&
      plainProblem(stats.sample, siteRows(stats), null, act, inputs, actBits, !method.floatActivations);
    const quantized = await quantizeLinear(
      linear,
      scaleColumns(linear.weight, null, inputs),
      problem,
      method,
    );
    return { norm: { weight: gamma }, linear: quantized, inputs, offsets: false, act, clip: null };
  }
  return quantizeStaticSite(gamma, linear, required(stats, method), method);
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
  if (mode === 'dynamic' && inputs && clipsTokens(method)) act = await searchOf(method).tokens(inputs);
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
 * What up's rows can carry of the steps of down's input [F]: a channel's without the online transform, a block's behind it; null
 * where all channels have one step, which the rotation has made alike.
 */
async function foldedDownScales(
  stats: SiteStats,
  weights: Matrix,
  method: Method,
): Promise<Float32Array | null> {
  const { hadamard, downSteps } = method;
  if (!hadamard) return projectionScales(stats, weights, method);
  return downSteps === 'block' ? blockScales(stats, weights, hadamard.downBlock, method) : null;
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
    downScales = await foldedDownScales(down, layer.down.weight, method);
    ({ qkv, gateUp, oScales, downScales } = foldScales(layer, oScales, downScales, config));
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
    clip: { attn: attn.clip, mlp: mlp.clip },
    attnNorm: attn.norm,
    qkv: attn.linear,
    o: o.linear,
    mlpNorm: mlp.norm,
    gateUp: mlp.linear,
    down: down.linear,
  };
}
