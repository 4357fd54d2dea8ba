/** Medians, spreads, and whether two of them differ. */

/** A measured quantity: its median and how far single measurements lie from it. */
export interface Summary {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  /** Robust standard deviation of one measurement: 1.4826 · median |x − median|. */
  readonly deviation: number;
  readonly samples: number;
}

/** Makes the median absolute deviation of normal samples their standard deviation. */
const normalFactor = 1.4826;
/** Differences of clocks and schedules that a few samples of one run do not show. */
const floorShare = 0.01;

/** The middle value; the mean of the two middle ones for an even count. @throws RangeError without values */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('median: expected at least one value, got none');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** @throws RangeError without values, or with one that is not finite */
export function summarize(values: readonly number[]): Summary {
  const bad = values.find((value) => !Number.isFinite(value));
  if (bad !== undefined) throw new RangeError(`summarize: expected finite measurements, got ${bad}`);
  const middle = median(values);
  return {
    median: middle,
    least: Math.min(...values),
    most: Math.max(...values),
    deviation: normalFactor * median(values.map((value) => Math.abs(value - middle))),
    samples: values.length,
  };
}

/** The summary of `factor / x`, for turning times into rates. */
export function rateOf(time: Summary, factor: number): Summary {
  const rate = factor / time.median;
  return {
    median: rate,
    least: factor / time.most,
    most: factor / time.least,
    deviation: rate * (time.deviation / time.median),
    samples: time.samples,
  };
}

/** The summary of `factor · x`. */
export function scaled({ median, least, most, deviation, samples }: Summary, factor: number): Summary {
  return {
    median: factor * median,
    least: factor * least,
    most: factor * most,
    deviation: factor * deviation,
    samples,
  };
}

/** A figure that was counted, not measured. */
export function exactly(value: number): Summary {
  return { median: value, least: value, most: value, deviation: 0, samples: 1 };
}

/** How large a difference between two medians may be by chance: twice their joint deviation, at least 1 %. */
export function noiseOf(a: Summary, b: Summary): number {
  const joint = Math.hypot(a.deviation, b.deviation);
  return Math.max(2 * joint, floorShare * Math.max(Math.abs(a.median), Math.abs(b.median)));
}

export function withinNoise(a: Summary, b: Summary): boolean {
  return Math.abs(a.median - b.median) <= noiseOf(a, b);
}
