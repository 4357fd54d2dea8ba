/** A norm whose output is static integers, and the linear behind it. */
import type { SiteStats } from './calibrate';
import type { Linear } from './layer';
import { mergedProblem } from './linear-problem';
import type { Matrix } from './matrix';
import type { Method, QuantizedLinear, QuantizedNorm } from './method';
import { hessianDiagonal, mergeNorm, migrateWeights } from './migrate';
import { clipInputs, clips, quantizeLinear, searchOf, siteRows } from './quantize-linear';
import { type Reconstruction, reconstruct } from './reconstruct';
import { channelScales, ratioCounts, tensorScales } from './scales';
import { smoothedInputs, smoothingFactors } from './smooth';
import { centeredInputs, rangeCenters, withZeroPoints, zeroBias, zeroPoints } from './zero-points';

export interface NormSite {
  readonly norm: QuantizedNorm;
  readonly linear: QuantizedLinear;
  /** K' */
  readonly inputs: number;
  readonly offsets: boolean;
  /** Clip ratio of a dynamic quantizer, 1 for a static one. */
  readonly act: number;
  /** Channels at each clip ratio of `ratioGrid`, where channels have one. */
  readonly clip: readonly number[] | null;
}

interface SiteScales {
  /** Steps [K]. */
  readonly scales: Float32Array;
  /** Middles of ranges [K], or null where they are taken for 0, and the sampled rows around them. */
  readonly centers: Float32Array | null;
  readonly sample: Matrix;
  readonly clip: readonly number[] | null;
}

/** One step for the whole tensor, times SmoothQuant's factors where the method smooths. */
async function sharedScales(stats: SiteStats, weights: Matrix, method: Method): Promise<SiteScales> {
  const { actBits, smooth = null } = method;
  const factors = smooth === null ? null : smoothingFactors(stats.absMax, weights, smooth);
  const plain = clipInputs(stats, weights, method);
  const inputs = factors ? smoothedInputs(plain, factors) : plain;
  const ratio = clips(method) ? await searchOf(method).tensor(inputs) : 1;
  const scales = tensorScales(inputs.absMax, actBits, ratio);
  const own = factors ? scales.map((s, k) => s * factors[k]!) : scales;
  return { scales: own, centers: null, sample: stats.sample, clip: null };
}

/** A clipped step for each channel, around 0 or around the middle of its range. */
async function ownScales(stats: SiteStats, weights: Matrix, method: Method): Promise<SiteScales> {
  const plain = clipInputs(stats, weights, method);
  const centers = method.zeroPoints && !method.floatActivations ? rangeCenters(stats.sample) : null;
  const inputs = centers ? centeredInputs(plain, centers) : plain;
  const ratios = await searchOf(method).channels(inputs, method.clipLoss, method.alpha);
  const scales = channelScales(inputs.absMax, method.actBits, ratios);
  return { scales, centers, sample: inputs.rows, clip: ratioCounts(ratios) };
}

function staticColumns({ scales, centers, sample }: SiteScales, method: Method): Reconstruction {
  const { actBits, alpha } = method;
  const columns = reconstruct(scales, {
    mode: method.scheme === 'tensor-static' ? 'none' : method.reconstruct,
    alpha,
    actBits,
    hessianDiagonal: hessianDiagonal(sample, scales, actBits),
  });
  return centers ? withZeroPoints(columns, zeroPoints(centers, scales)) : columns;
}

/** Eq. 1 to 6 on one site. @throws what the method's clip search and weight quantizer throw */
export async function quantizeStaticSite(
  gamma: Float32Array,
  linear: Linear,
  stats: SiteStats,
  method: Method,
): Promise<NormSite> {
  const scalesOf = method.scheme === 'tensor-static' ? sharedScales : ownScales;
  const site = await scalesOf(stats, linear.weight, method);
  const columns = staticColumns(site, method);
  const { gather, offsets, centered = false } = columns;
  const problem = mergedProblem(
    stats.sample,
    siteRows(stats),
    columns,
    method.actBits,
    !method.floatActivations,
  );
  const migrated = migrateWeights(linear.weight, columns);
  const quantized = await quantizeLinear(linear, migrated, problem, method);
  const bias = centered && offsets ? zeroBias(migrated, offsets, linear.bias) : linear.bias;
  return {
    norm: { mult: mergeNorm(gamma, columns), gather, offset: offsets },
    linear: { ...quantized, bias },
    inputs: gather.length,
    offsets: offsets !== null,
    act: 1,
    clip: site.clip,
  };
}
