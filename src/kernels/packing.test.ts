import { expect, test } from 'vitest';
import { GatherRangeError, packGather } from './packing';

test('a gather word holds the index in its low and the signed offset in its high bits', () => {
  const packed = packGather(Uint32Array.of(0, 5, 0xfffff, 7), Int32Array.of(0, -1, -2048, 2047));
  expect([...packed]).toEqual([0, 0xfff00005, 0x800fffff, 0x7ff00007]);
  expect([...packGather(Uint32Array.of(3), null)]).toEqual([3]);
});

test.each([
  {
    name: 'index',
    gather: [0, 8],
    offset: null,
    message: 'gather element 1: expected an index below 8, found 8',
  },
  {
    name: 'offset too large',
    gather: [0, 1],
    offset: [2048, 0],
    message: 'gather element 0: expected an offset from -2048 to 2047, found 2048',
  },
  { name: 'offset too small', gather: [0], offset: [-2049], message: 'found -2049' },
  { name: 'lengths', gather: [0, 1], offset: [0], message: 'gather has 2 elements, its offsets 1' },
])('refuses a wrong $name, naming it', ({ gather, offset, message }) => {
  const pack = () => packGather(Uint32Array.from(gather), offset && Int32Array.from(offset), 8);
  expect(pack).toThrow(GatherRangeError);
  expect(pack).toThrow(message);
});

test('refuses more channels than an index can name', () => {
  expect(() => packGather(Uint32Array.of(0), null, 2 ** 20 + 1)).toThrow(GatherRangeError);
});
