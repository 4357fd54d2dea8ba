import { describe, expect, test } from 'vitest';
import { baselinesFor, compareRuns } from './compare';
import { benchFile, figure, suite } from './testing';

const run = (...figures: Parameters<typeof suite>[1]) => benchFile([suite('decode', figures)]);

/** Runs of a figure `decode/a`, one for each value. */
const runsOf = (...values: number[]) => values.map((value) => run(figure('decode/a', value)));

describe('compareRuns', () => {
  test('less of what should be more is worse, beyond the noise only', () => {
    const before = ['a', 'b', 'c'].map((name) => figure(`decode/${name}`, 100));
    const after = run(figure('decode/a', 80), figure('decode/b', 90), figure('decode/c', 120));
    // One run tells nothing about others: 4 · 3 % · √2 = 17 %.
    expect(compareRuns([run(...before)], after).map(({ verdict }) => verdict)).toEqual([
      'worse',
      'same',
      'better',
    ]);
  });

  test('more of what should be less is worse', () => {
    const time = { unit: 'us', better: 'lower' } as const;
    const [comparison] = compareRuns([run(figure('decode/t', 10, time))], run(figure('decode/t', 12, time)));
    expect(comparison).toMatchObject({ verdict: 'worse', before: 10, after: 12 });
    expect(comparison!.gain).toBeCloseTo(-0.2, 10);
  });

  test('counts have no noise', () => {
    const counted = { unit: 'dispatches', better: 'lower', clock: 'count' } as const;
    const before = run(figure('decode/n', 389, counted));
    expect(compareRuns([before], run(figure('decode/n', 390, counted)))[0]!.verdict).toBe('worse');
    expect(compareRuns([before], before)[0]!.verdict).toBe('same');
  });

  test('runs that agree make smaller losses visible', () => {
    const [slower] = runsOf(94);
    expect(compareRuns(runsOf(100), slower!)[0]!.verdict).toBe('same');
    expect(compareRuns(runsOf(100, 100.5, 99.5, 100.2), slower!)[0]!.verdict).toBe('worse');
  });

  test('samples that spread within a run need a larger difference', () => {
    const noisy = figure('decode/a', 100);
    const wide = run({ ...noisy, value: { ...noisy.value, deviation: 10 } });
    const [slower] = runsOf(75);
    expect(compareRuns([wide], slower!)[0]!.verdict).toBe('same');
    expect(compareRuns(runsOf(100), slower!)[0]!.verdict).toBe('worse');
  });

  test('what equal runs differed by before is noise, however calm each was', () => {
    const [after] = runsOf(50);
    expect(compareRuns(runsOf(100), after!)[0]!.verdict).toBe('worse');
    // Range 65 is 1.693 deviations of three runs: 38 % of 100, and four of them are more than any loss.
    expect(compareRuns(runsOf(100, 40, 105), after!)[0]!.verdict).toBe('same');
  });

  test('a figure that happened to agree is judged by what others of its suite differ by', () => {
    const names = ['a', 'b', 'c', 'd', 'e'];
    const runs = [1, 1.1, 0.9].map((factor) =>
      run(figure('decode/calm', 100), ...names.map((name) => figure(`decode/${name}`, 100 * factor))),
    );
    const others = names.map((name) => figure(`decode/${name}`, 100));
    const slower = figure('decode/calm', 90);
    const verdict = (after: ReturnType<typeof run>) =>
      compareRuns(runs, after).find(({ id }) => id === 'decode/calm')!.verdict;
    expect(verdict(run(slower, ...others))).toBe('same');
    expect(verdict(run(slower))).toBe('worse'); // on its own nothing speaks for noise
  });

  test('equal runs are called equal: of many drawn from one distribution, none is worse', () => {
    let state = 1;
    const uniform = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state + 0.5) / 2 ** 32;
    };
    const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    const draw = () =>
      run(...Array.from({ length: 200 }, (_, i) => figure(`decode/${i}`, 100 * (1 + 0.04 * normal()))));
    const verdicts = compareRuns([draw(), draw(), draw()], draw()).map(({ verdict }) => verdict);
    expect(verdicts.filter((verdict) => verdict !== 'same')).toEqual([]);
  });

  test('figures of one run only, of no direction or of another clock are left out', () => {
    const before = run(
      figure('decode/a', 1),
      figure('decode/b', 1, { better: 'none' }),
      figure('decode/c', 1),
    );
    const after = run(
      figure('decode/b', 2, { better: 'none' }),
      figure('decode/c', 2, { clock: 'gpu' }),
      figure('decode/d', 2),
    );
    expect(compareRuns([before], after)).toEqual([]);
  });
});

describe('baselinesFor', () => {
  const after = benchFile([], { date: '2026-02-01T00:00:00.000Z' });

  test('the earlier runs of the same adapter and runtime', () => {
    const stored = [
      benchFile([], { date: '2026-01-01T00:00:00.000Z' }),
      benchFile([], { date: '2026-01-03T00:00:00.000Z' }),
      benchFile([], { date: '2026-01-09T00:00:00.000Z', adapterName: 'Other' }),
      benchFile([], { date: '2026-01-08T00:00:00.000Z', runtime: { kind: 'browser', name: 'x' } }),
      after,
    ];
    expect(baselinesFor(after, stored)).toEqual(stored.slice(0, 2));
  });

  test('says when there is none', () => {
    expect(() => baselinesFor(after, [after])).toThrow(/no stored result of ACME One in a node runtime/);
  });
});
