import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FormatError } from './errors';
import {
  gridStep,
  gridWord,
  gridZero,
  groupCount,
  packLevels,
  storableStep,
  unpackCodes,
  unpackLevels,
} from './weight-grid';

const matrix = fc
  .record({
    rows: fc.integer({ min: 1, max: 5 }),
    blocks: fc.integer({ min: 1, max: 4 }),
    bits: fc.constantFrom(3 as const, 4 as const),
  })
  .chain(({ rows, blocks, bits }) =>
    fc.record({
      ...{ rows: fc.constant(rows), bits: fc.constant(bits), inputs: fc.constant(32 * blocks) },
      levels: fc.uint8Array({
        max: 2 ** bits - 1,
        minLength: rows * blocks * 32,
        maxLength: rows * blocks * 32,
      }),
    }),
  );

describe('levels', () => {
  test('unpack inverts pack, in the bits promised', () => {
    fc.assert(
      fc.property(matrix, ({ rows, inputs, bits, levels }) => {
        const words = packLevels(levels, bits, rows, inputs);
        expect(words.length).toBe((rows * inputs * bits) / 32);
        expect(unpackLevels(words, bits, rows, inputs)).toEqual(levels);
      }),
    );
  });

  test('four consecutive 3-bit elements come out in four byte lanes with two shifts', () => {
    fc.assert(
      fc.property(fc.uint8Array({ max: 7, minLength: 32, maxLength: 32 }), (levels) => {
        const words = packLevels(levels, 3, 1, 32);
        const lanes: number[] = [];
        for (let i = 0; i < 8; i++) {
          const low = (words[i >> 2]! >>> (2 * (i & 3))) & 0x03030303;
          const high = (words[2]! >>> i) & 0x01010101;
          lanes.push(...new Uint8Array(Uint32Array.of(low | (high << 2)).buffer));
        }
        expect(lanes).toEqual([...levels]);
      }),
    );
  });

  test('known words: elements 0 … 7 are levels 0 … 7, the rest 0', () => {
    const levels = Uint8Array.from({ length: 32 }, (_, k) => (k < 8 ? k : 0));
    // word 0: lanes 0 … 3 hold (0, 4), (1, 5), (2, 6), (3, 7), low two bits each; word 2: the high bits of 4 … 7
    expect([...packLevels(levels, 3, 1, 32)].map((word) => word.toString(16))).toEqual([
      'f0a0500',
      '0',
      '2020202',
    ]);
  });

  test.each([8, 255])('level %i is refused with its place', (level) => {
    const levels = new Uint8Array(64);
    levels[37] = level;
    expect(() => packLevels(levels, 3, 2, 32)).toThrow(FormatError);
    expect(() => packLevels(levels, 3, 2, 32)).toThrow(`row 1, input 5: expected 0 to 7, found ${level}`);
  });

  test.each([0, 16, 33, -32])('inputs %i are refused', (inputs) => {
    expect(() => packLevels(new Uint8Array(64), 3, 1, inputs)).toThrow('multiple of 32');
    expect(() => unpackLevels(new Uint32Array(6), 3, 1, inputs)).toThrow('multiple of 32');
  });

  test('a wrong length is refused', () => {
    expect(() => packLevels(new Uint8Array(32), 3, 2, 32)).toThrow('expected [2, 32], found 32');
    expect(() => unpackLevels(new Uint32Array(3), 3, 2, 32)).toThrow('expected [2, 32], found 32');
  });
});

describe('grid words', () => {
  test('hold the nearest step of 24 bits and the zero point', () => {
    const step = fc.float({ min: Math.fround(1e-30), max: Math.fround(1e30), noNaN: true });
    fc.assert(
      fc.property(step, fc.integer({ min: 0, max: 127 }), (value, zero) => {
        const stored = storableStep(value);
        expect(Math.abs(stored / value - 1)).toBeLessThanOrEqual(2 ** -16); // half of the last of 15 kept fraction bits
        const word = gridWord(stored, zero);
        expect(gridStep(word)).toBe(stored);
        expect(gridZero(word)).toBe(zero);
      }),
    );
  });

  test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 3.4028234e38])('step %d is refused', (step) => {
    expect(() => storableStep(step)).toThrow(FormatError);
  });

  test.each([-1, 128, 0.5])('zero point %d is refused', (zero) => {
    expect(() => gridWord(1, zero)).toThrow('an integer from 0 to 127');
  });

  test('a step of more bits is refused', () => {
    expect(() => gridWord(1 + 2 ** -20, 0)).toThrow('8 low bits are 0');
  });
});

test('codes: each group with its own zero point, the last group shorter', () => {
  const levels = Uint8Array.from({ length: 192 }, (_, k) => k % 8);
  const grid = Uint32Array.from([5, 16, 100, 127], (zero) => gridWord(0.5, zero));
  expect(groupCount({ groupSize: 64 }, 96)).toBe(2);
  const codes = unpackCodes(packLevels(levels, 3, 2, 96), grid, { groupSize: 64 }, 3, 2);
  expect([...codes.subarray(60, 68)]).toEqual(
    [4, 5, 6, 7].map((u) => 16 * u - 5).concat([0, 1, 2, 3].map((u) => 16 * u - 16)),
  );
  expect([...codes.subarray(188)]).toEqual([4, 5, 6, 7].map((u) => 16 * u - 127));
  const rows = unpackCodes(packLevels(levels, 3, 2, 96), grid.subarray(0, 2), { groupSize: null }, 3, 2);
  expect([rows[1], rows[97]]).toEqual([16 - 5, 16 * 1 - 16]);
});
