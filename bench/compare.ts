/**
 * Whether a run is slower than the stored ones of the same adapter, beyond noise. Samples of one run agree better than runs
 * do, so noise is what equal runs differ by: of each figure where enough are stored, and of all figures of its suite
 * together, because a few runs say little about any one of them.
 */
import { type BenchFile, BenchRequestError, type Figure, figuresById } from './figures';
import { median } from './statistics';

export interface Comparison {
  readonly id: string;
  readonly unit: Figure['unit'];
  /** Median over the stored runs. */
  readonly before: number;
  readonly after: number;
  /** Relative change in the direction of progress: +0.1 is ten percent better. */
  readonly gain: number;
  /** A gain or loss up to this is noise. */
  readonly noise: number;
  readonly verdict: 'better' | 'worse' | 'same';
}

/** Deviations that a change must exceed: of a hundred figures that did not change, none should. */
const deviations = 4;
/** Share below which nobody acts on a change between two days. */
const leastShare = 0.03;
/** Deviation between runs, as a share, where a single stored run says nothing about it. */
const unknownDeviation = 0.03;
/** Expected range of n normal values in standard deviations, n = 2, 3, …: the d2 of control charts (Shewhart). */
const rangeInDeviations = [1.128, 1.693, 2.059, 2.326, 2.534, 2.704, 2.847, 2.97, 3.078];

/** Same adapter, runtime, optional matrices, suites and shape: runs whose figures may be held against each other. */
export function isAlike(a: BenchFile, b: BenchFile): boolean {
  const key = ({ adapterName, runtime, caps, request }: BenchFile) =>
    [adapterName, runtime.kind, caps.subgroupMatrixI8, request.shape, ...request.suites].join();
  return key(a) === key(b);
}

/**
 * The stored runs to compare with: same adapter, kind of runtime and request, from before `after`.
 * @throws BenchRequestError when there is none
 */
export function baselinesFor(after: BenchFile, stored: readonly BenchFile[]): BenchFile[] {
  const baselines = stored.filter((file) => isAlike(file, after) && file.date < after.date);
  if (baselines.length === 0) {
    throw new BenchRequestError(
      `no stored result of ${after.adapterName} in a ${after.runtime.kind} runtime from before ${after.date}`,
    );
  }
  return baselines;
}

/** Every figure that the run and a stored one have and that has a direction, against the median of the stored ones. */
export function compareRuns(before: readonly BenchFile[], after: BenchFile): Comparison[] {
  const runs = before.map(figuresById);
  const pairs = [...figuresById(after).values()].flatMap((figure) => {
    const earlier = runs.flatMap((run) => {
      const base = run.get(figure.id);
      return base && base.unit === figure.unit && base.clock === figure.clock ? [base] : [];
    });
    return figure.better !== 'none' && earlier.length > 0 ? [{ figure, earlier }] : [];
  });
  const ofSuite = suiteDeviations(pairs.map(({ earlier }) => earlier));
  return pairs.map(({ figure, earlier }) =>
    compareFigure(figure, earlier, ofSuite.get(suiteOf(figure)) ?? unknownDeviation),
  );
}

function suiteOf({ id }: Figure): string {
  return id.slice(0, id.indexOf('/'));
}

/** Standard deviation between runs as a share of their median, from their range; null for a single run. */
function relativeDeviation(figures: readonly Figure[]): number | null {
  if (figures.length < 2) return null;
  const medians = figures.map(({ value }) => value.median);
  const range = Math.max(...medians) - Math.min(...medians);
  const expected = rangeInDeviations[Math.min(medians.length, rangeInDeviations.length + 1) - 2]!;
  return range / expected / Math.abs(median(medians));
}

/** What figures of a suite usually differ by between runs: the upper quartile, since clocks disturb some more than others. */
function suiteDeviations(groups: readonly (readonly Figure[])[]): Map<string, number> {
  const deviationsOf = new Map<string, number[]>();
  for (const figures of groups) {
    const deviation = relativeDeviation(figures);
    if (deviation === null || figures[0]!.clock === 'count') continue;
    const suite = suiteOf(figures[0]!);
    deviationsOf.set(suite, [...(deviationsOf.get(suite) ?? []), deviation]);
  }
  return new Map([...deviationsOf].map(([suite, values]) => [suite, upperQuartile(values)]));
}

function upperQuartile(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(0.75 * values.length)]!;
}

function compareFigure(figure: Figure, earlier: readonly Figure[], ofSuite: number): Comparison {
  const before = median(earlier.map(({ value }) => value.median));
  const after = figure.value.median;
  const change = (after - before) / Math.abs(before);
  const gain = figure.better === 'higher' ? change : -change;
  const noise = figure.clock === 'count' ? 0 : noiseShare(figure, earlier, ofSuite);
  const verdict = Math.abs(gain) <= noise ? 'same' : gain > 0 ? 'better' : 'worse';
  return { id: figure.id, unit: figure.unit, before, after, gain, noise, verdict };
}

/** A gain or loss up to this share is noise. (A counted figure has none: one dispatch more is one more.) */
function noiseShare(figure: Figure, earlier: readonly Figure[], ofSuite: number): number {
  const within = Math.max(
    ...[figure, ...earlier].map(({ value }) => value.deviation / Math.abs(value.median)),
  );
  const between = Math.max(relativeDeviation(earlier) ?? 0, ofSuite);
  // The new run differs from the stored ones' middle by its own deviation and by theirs, of which n runs leave 1/√n.
  const joint = between * Math.sqrt(1 + 1 / earlier.length);
  return Math.max(leastShare, deviations * Math.max(joint, within));
}
