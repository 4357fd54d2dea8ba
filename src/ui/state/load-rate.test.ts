import { expect, test } from 'vitest';
import { LoadRate } from './load-rate';

test('the rate is that of the last seconds', () => {
  const rate = new LoadRate();
  expect(rate.add(0, 0)).toBeNull();
  expect(rate.add(100, 1000)).toBeNull();
  expect(rate.add(1000, 1_000_000)).toBe(1_000_000);
  for (let second = 2; second <= 20; second++) rate.add(second * 1000, 1_000_000 + second * 2000);
  expect(rate.add(21_000, 1_000_000 + 21 * 2000)).toBeCloseTo(2000);
});

test('bytes that fall back begin a new measurement', () => {
  const rate = new LoadRate();
  rate.add(0, 0);
  rate.add(2000, 4000);
  expect(rate.add(3000, 100)).toBeNull();
  expect(rate.add(4000, 1100)).toBe(1000);
});
