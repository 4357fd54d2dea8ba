import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { exactly, median, noiseOf, rateOf, scaled, summarize, withinNoise } from './statistics';

describe('median', () => {
  test('of odd and even counts', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
  });

  test('lies between the extremes and does not depend on order', () => {
    const values = fc.array(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), { minLength: 1 });
    fc.assert(
      fc.property(values, (list) => {
        const middle = median(list);
        expect(middle).toBeGreaterThanOrEqual(Math.min(...list));
        expect(middle).toBeLessThanOrEqual(Math.max(...list));
        expect(median([...list].reverse())).toBe(middle);
      }),
    );
  });

  test('of nothing is refused', () => {
    expect(() => median([])).toThrow(RangeError);
  });
});

describe('summarize', () => {
  test('one outlier moves neither the median nor the deviation', () => {
    const calm = summarize([10, 11, 12, 13, 14]);
    const upset = summarize([10, 11, 12, 13, 1000]);
    expect(calm).toMatchObject({ median: 12, least: 10, most: 14, samples: 5 });
    expect(upset.median).toBe(12);
    expect(upset.deviation).toBe(calm.deviation);
    expect(calm.deviation).toBeCloseTo(1.4826, 10); // of distances 2, 1, 0, 1, 2
  });

  test('refuses what is not a measurement', () => {
    expect(() => summarize([1, Number.NaN])).toThrow(/NaN/);
  });
});

test('a rate swaps the extremes and keeps the relative deviation', () => {
  const rate = rateOf({ median: 2, least: 1, most: 4, deviation: 0.5, samples: 3 }, 8);
  expect(rate).toEqual({ median: 4, least: 2, most: 8, deviation: 1, samples: 3 });
});

test('scaling keeps the order', () => {
  const value = { median: 2, least: 1, most: 4, deviation: 0.5, samples: 3 };
  expect(scaled(value, 10)).toEqual({ median: 20, least: 10, most: 40, deviation: 5, samples: 3 });
});

describe('noise', () => {
  test('twice the joint deviation', () => {
    const a = { median: 100, least: 90, most: 110, deviation: 3, samples: 9 };
    const b = { median: 109, least: 95, most: 120, deviation: 4, samples: 9 };
    expect(noiseOf(a, b)).toBe(10);
    expect(withinNoise(a, b)).toBe(true);
    expect(withinNoise(a, { ...b, median: 111 })).toBe(false);
  });

  test('at least one percent, however calm the samples were', () => {
    expect(withinNoise(exactly(100), exactly(100.9))).toBe(true);
    expect(withinNoise(exactly(100), exactly(102))).toBe(false);
  });
});
