import { expect, test } from 'vitest';
import { formatBytes, formatMs, formatRate, formatRemaining } from './format';

test('bytes change their unit before they reach four digits', () => {
  expect([0, 999, 1000, 9_949, 9_950, 999_499, 999_500, 3_870_000_000].map(formatBytes)).toEqual([
    '0 B',
    '999 B',
    '1.0 kB',
    '9.9 kB',
    '10 kB',
    '999 kB',
    '1.0 MB',
    '3.9 GB',
  ]);
});

test('rates and durations keep two or three digits', () => {
  expect([0.52, 9.94, 54.3].map(formatRate)).toEqual(['0.5', '9.9', '54']);
  expect([0.4, 999.4, 1000, 12_340].map(formatMs)).toEqual(['0 ms', '999 ms', '1.0 s', '12.3 s']);
});

test('the time left is rounded to what matters', () => {
  expect([0.2, 59.4, 60, 3569, 5400].map(formatRemaining)).toEqual([
    '1 s left',
    '59 s left',
    '1 min left',
    '59 min left',
    '1.5 h left',
  ]);
});
