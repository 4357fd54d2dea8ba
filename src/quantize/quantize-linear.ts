/** Steps that every site of a layer shares: clip searches' inputs, calibration rows, rounding a weight. */
import type { SiteStats } from './calibrate';
import type { ClipInputs } from './clip';
import type { Linear } from './layer';
import { type ClipSearch, hostClipSearch } from './layer-device';
import type { LinearProblem, SiteRows } from './linear-problem';
import type { Matrix } from './matrix';
import { CalibrationMissingError, type Method, type QuantizedLinear } from './method';

/** Where the method looks for clip ratios. */
export function searchOf({ clip }: Method): ClipSearch {
  return clip ?? hostClipSearch;
}

/** Whether static ranges are clipped. */
export function clips({ clipLoss }: Method): boolean {
  return clipLoss !== 'none';
}

/** Whether tokens of dynamic quantizers are clipped. */
export function clipsTokens(method: Method): boolean {
  return method.tokenClip ?? clips(method);
}

export function clipInputs(
  stats: SiteStats,
  weights: Matrix,
  { actBits, weightGrid = null }: Method,
): ClipInputs {
  return { rows: stats.sample, absMax: stats.absMax, weights, actBits, weightGrid };
}

/** Every token that was kept, else the sample; without rows of their own the float targets are the rows. */
export function siteRows({ sample, rows = [sample], targets = rows }: SiteStats): SiteRows {
  return { rows, targets };
}

export async function quantizeLinear(
  linear: Linear,
  migrated: Matrix,
  problem: LinearProblem | null,
  method: Method,
): Promise<QuantizedLinear> {
  const { bias, prefix } = linear;
  return {
    weight: await method.quantizeWeights(migrated, problem),
    bias,
    migrated,
    ...(prefix && { prefix }),
  };
}

/** @throws CalibrationMissingError */
export function required<T>(stats: T | null, method: Method): T {
  if (stats === null)
    throw new CalibrationMissingError(`scheme ${method.scheme} needs calibration statistics`);
  return stats;
}
