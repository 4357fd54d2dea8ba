import { expect, test } from 'vitest';
import { bytesText } from './bytes-text';

test.each([
  [0, '0 bytes'],
  [1023, '1023 bytes'],
  [1024, '1.00 KiB'],
  [2 ** 30 - 4, '1.00 GiB'],
  [3.87 * 2 ** 30, '3.87 GiB'],
  [2 ** 51, '2048.00 TiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(bytesText(bytes)).toBe(text);
});
