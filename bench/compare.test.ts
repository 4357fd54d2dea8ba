import { describe, expect, test } from 'vitest';
import { baselineFor, compareFiles } from './compare';
import { benchFile, figure, suite } from './testing';

const run = (...figures: Parameters<typeof suite>[1]) => benchFile([suite('decode', figures)]);

describe('compareFiles', () => {
  test('less of what should be more is worse, beyond the noise only', () => {
    const before = run(figure('decode/a', 100), figure('decode/b', 100), figure('decode/c', 100));
    const after = run(figure('decode/a', 90), figure('decode/b', 97), figure('decode/c', 110));
    // Noise: 3 · hypot(1, 0.9) % = 4.04 %.
    expect(compareFiles(before, after).map(({ verdict }) => verdict)).toEqual(['worse', 'same', 'better']);
  });

  test('more of what should be less is worse', () => {
    const time = { unit: 'us', better: 'lower' } as const;
    const [comparison] = compareFiles(run(figure('decode/t', 10, time)), run(figure('decode/t', 12, time)));
    expect(comparison).toMatchObject({ verdict: 'worse', before: 10, after: 12 });
    expect(comparison!.gain).toBeCloseTo(-0.2, 10);
  });

  test('counts have no noise', () => {
    const counted = { unit: 'dispatches', better: 'lower', clock: 'count' } as const;
    const before = run(figure('decode/n', 389, counted));
    expect(compareFiles(before, run(figure('decode/n', 390, counted)))[0]!.verdict).toBe('worse');
    expect(compareFiles(before, before)[0]!.verdict).toBe('same');
  });

  test('noisy runs need a larger difference', () => {
    const noisy = figure('decode/a', 100);
    const wide = { ...noisy, value: { ...noisy.value, deviation: 10 } };
    const slow = figure('decode/a', 70);
    expect(compareFiles(run(wide), run(slow))[0]!.verdict).toBe('same');
    expect(compareFiles(run(noisy), run(slow))[0]!.verdict).toBe('worse');
  });

  test('what equal runs differed by before is noise, however calm each was', () => {
    const history = [run(figure('decode/a', 40)), run(figure('decode/a', 105))];
    const [before, after] = [run(figure('decode/a', 100)), run(figure('decode/a', 50))];
    expect(compareFiles(before, after)[0]!.verdict).toBe('worse');
    expect(compareFiles(before, after, history)[0]!).toMatchObject({ verdict: 'same', noise: 0.65 });
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
    expect(compareFiles(before, after)).toEqual([]);
  });
});

describe('baselineFor', () => {
  const after = benchFile([], { date: '2026-02-01T00:00:00.000Z' });

  test('the newest earlier run of the same adapter and runtime', () => {
    const stored = [
      benchFile([], { date: '2026-01-01T00:00:00.000Z' }),
      benchFile([], { date: '2026-01-03T00:00:00.000Z' }),
      benchFile([], { date: '2026-01-09T00:00:00.000Z', adapterName: 'Other' }),
      benchFile([], { date: '2026-01-08T00:00:00.000Z', runtime: { kind: 'browser', name: 'x' } }),
      after,
    ];
    expect(baselineFor(after, stored).date).toBe('2026-01-03T00:00:00.000Z');
  });

  test('says when there is none', () => {
    expect(() => baselineFor(after, [after])).toThrow(/no stored result of ACME One in a node runtime/);
  });
});
