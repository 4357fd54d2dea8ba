import { expect, test } from 'vitest';
import { denseStride, padRows } from './dense-layout';
import { halfValue } from './dense-layout.ref';
import { KernelShapeError } from './op';

test('rows are padded to whole 16-byte words', () => {
  expect([1, 8, 9, 172, 4096].map((cols) => denseStride(cols, 'F16'))).toEqual([8, 8, 16, 176, 4096]);
  expect([1, 4, 5, 172, 4096].map((cols) => denseStride(cols, 'F32'))).toEqual([4, 4, 8, 172, 4096]);
});

test('padRows puts zeros behind every row', () => {
  const padded = padRows(new Uint8Array(new Uint16Array([1, 2, 3, 4, 5, 6]).buffer), 2, 3, 'F16');
  expect([...new Uint16Array(padded.buffer)]).toEqual([1, 2, 3, 0, 0, 0, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0]);
});

test('padRows hands back what needs no padding', () => {
  const bytes = new Uint8Array(3 * 4 * 4);
  expect(padRows(bytes, 3, 4, 'F32')).toBe(bytes);
});

test('padRows names expected and actual length', () => {
  expect(() => padRows(new Uint8Array(11), 2, 3, 'F16')).toThrow(KernelShapeError);
  expect(() => padRows(new Uint8Array(11), 2, 3, 'F16')).toThrow('12 bytes for F16 [2, 3], got 11');
});

test('halfValue decodes ones, the smallest subnormal and the largest half', () => {
  expect([0x3c00, 0xc000, 0x0001, 0x0400, 0x7bff].map(halfValue)).toEqual([1, -2, 2 ** -24, 2 ** -14, 65504]);
});
