/**
 * Whether a run is slower than an earlier one on the same adapter, beyond noise. Samples of one run agree far better than runs
 * do: on an H200 three equal runs read 1,066, 2,154 and 802 GB/s with under 1 % of spread in each. So the range over the
 * stored runs counts as noise, too.
 */
import { type BenchFile, BenchRequestError, type Figure, figuresById } from './figures';

export interface Comparison {
  readonly id: string;
  readonly unit: Figure['unit'];
  readonly before: number;
  readonly after: number;
  /** Relative change in the direction of progress: +0.1 is ten percent better. */
  readonly gain: number;
  /** A gain or loss up to this is noise. */
  readonly noise: number;
  readonly verdict: 'better' | 'worse' | 'same';
}

/** Robust deviations that a change must exceed. */
const deviations = 3;
/** Share below which nobody acts on a change between two days. */
const leastShare = 0.03;

/** Same adapter, runtime, optional matrices, suites and shape: runs whose figures may be held against each other. */
export function isAlike(a: BenchFile, b: BenchFile): boolean {
  const key = ({ adapterName, runtime, caps, request }: BenchFile) =>
    [adapterName, runtime.kind, caps.subgroupMatrixI8, request.shape, ...request.suites].join();
  return key(a) === key(b);
}

/**
 * The stored run to compare with: same adapter, same kind of runtime, newest before `after`.
 * @throws BenchRequestError when there is none
 */
export function baselineFor(after: BenchFile, stored: readonly BenchFile[]): BenchFile {
  const candidates = stored.filter((file) => isAlike(file, after) && file.date < after.date);
  const baseline = candidates.sort((a, b) => b.date.localeCompare(a.date))[0];
  if (!baseline) {
    throw new BenchRequestError(
      `no stored result of ${after.adapterName} in a ${after.runtime.kind} runtime from before ${after.date}`,
    );
  }
  return baseline;
}

/** Every figure that both runs have and that has a direction. `history`: stored runs alike, for the noise between runs. */
export function compareFiles(
  before: BenchFile,
  after: BenchFile,
  history: readonly BenchFile[] = [],
): Comparison[] {
  const earlier = figuresById(before);
  const runs = [before, ...history].map(figuresById);
  return [...figuresById(after).values()].flatMap((figure) => {
    const base = earlier.get(figure.id);
    return base && figure.better !== 'none' && base.unit === figure.unit && base.clock === figure.clock
      ? [compareFigures(base, figure, betweenRuns(figure.id, runs))]
      : [];
  });
}

/** Range of a figure's medians over runs. */
function betweenRuns(id: string, runs: readonly ReadonlyMap<string, Figure>[]): number {
  const medians = runs.flatMap((run) => run.get(id)?.value.median ?? []);
  return Math.max(...medians) - Math.min(...medians);
}

function compareFigures(base: Figure, figure: Figure, range: number): Comparison {
  const before = base.value.median;
  const after = figure.value.median;
  const joint = Math.hypot(base.value.deviation, figure.value.deviation);
  // A counted figure has no noise: one dispatch more is one more.
  const noise =
    figure.clock === 'count'
      ? 0
      : Math.max(leastShare, Math.max(deviations * joint, range) / Math.abs(before));
  const change = (after - before) / Math.abs(before);
  const gain = figure.better === 'higher' ? change : -change;
  const verdict = Math.abs(gain) <= noise ? 'same' : gain > 0 ? 'better' : 'worse';
  return { id: figure.id, unit: figure.unit, before, after, gain, noise, verdict };
}
