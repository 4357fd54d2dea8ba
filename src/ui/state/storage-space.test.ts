import { expect, test } from 'vitest';
import { spaceText, spaceWarning } from './storage-space';

const GiB = 2 ** 30;

test.each([
  ['enough is left', 5e9, 9e9, false],
  ['too little is left', 5e9, 1e9, true],
  ['nothing is left', 5e9, 0, true],
  ['the browser does not say', 5e9, null, false],
  ['the estimate is the artificial 10 GiB', 40e9, 10 * GiB, false],
  ['a little of the artificial 10 GiB was written meanwhile', 40e9, 9.95 * GiB, false],
] as const)('%s: warned %4$s', (_, neededBytes, freeBytes, warned) => {
  expect(spaceWarning({ neededBytes, usedBytes: 1e6, freeBytes }) !== null).toBe(warned);
});

test('the words say what is needed, used and left', () => {
  const space = { neededBytes: 5_100_000, usedBytes: 12_000_000, freeBytes: 3_000_000 };
  expect(spaceText(space)).toBe('Needs 5.1 MB of storage; this page uses 12 MB so far.');
  expect(spaceWarning(space)).toContain('estimates that 3.0 MB are left');
});
