/**
 * SmoothQuant (arXiv 2211.10438), the static baseline: channel k of a norm is divided by f_k = max|X_k|^α / max|W_k|^(1−α) and
 * the columns behind it multiplied, before one scale quantizes all channels. Exact up to rounding.
 */
import type { SiteStats } from './calibrate';
import type { Linear } from './layer';
import { hostRows } from './layer-device';
import { type Matrix, matrix } from './matrix';

export interface SmoothedSite {
  readonly gamma: Float32Array;
  readonly linear: Linear;
  readonly stats: SiteStats;
}

/** f [K]; 1 where the channel or its column is all zeros. */
export function smoothingFactors(absMax: Float32Array, weight: Matrix, alpha: number): Float32Array {
  const columnMax = new Float32Array(weight.cols);
  weight.data.forEach((value, i) => {
    const k = i % weight.cols;
    columnMax[k] = Math.max(columnMax[k]!, Math.abs(value));
  });
  return absMax.map((value, k) => {
    const factor = value ** alpha / columnMax[k]! ** (1 - alpha);
    return factor > 0 && Number.isFinite(factor) ? factor : 1;
  });
}

function divideColumns(rows: Matrix, factors: Float32Array): Matrix {
  return matrix(
    rows.rows,
    rows.cols,
    rows.data.map((value, i) => value / factors[i % rows.cols]!),
  );
}

function divided(rows: Iterable<Matrix>, factors: Float32Array): Iterable<Matrix> {
  return {
    *[Symbol.iterator]() {
      for (const batch of rows) yield divideColumns(batch, factors);
    },
  };
}

/** γ/f, W·f and the statistics of the divided channels. */
export function smoothSite(
  gamma: Float32Array,
  linear: Linear,
  stats: SiteStats,
  alpha: number,
): SmoothedSite {
  const factors = smoothingFactors(stats.absMax, linear.weight, alpha);
  const weight = matrix(
    linear.weight.rows,
    linear.weight.cols,
    linear.weight.data.map((value, i) => value * factors[i % linear.weight.cols]!),
  );
  return {
    gamma: gamma.map((value, k) => value / factors[k]!),
    linear: { ...linear, weight },
    stats: {
      absMax: stats.absMax.map((value, k) => value / factors[k]!),
      sample: divideColumns(stats.sample, factors),
      ...(stats.rows && { rows: divided(hostRows(stats.rows), factors) }),
      ...(stats.targets && { targets: divided(hostRows(stats.targets), factors) }),
    },
  };
}
