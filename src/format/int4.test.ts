import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FormatError } from './errors';
import { packInt4, unpackInt4 } from './int4';

const matrix = fc
  .record({ rows: fc.integer({ min: 1, max: 5 }), blocks: fc.integer({ min: 1, max: 4 }) })
  .chain(({ rows, blocks }) =>
    fc.record({
      rows: fc.constant(rows),
      inputs: fc.constant(32 * blocks),
      codes: fc.int8Array({ min: -8, max: 7, minLength: rows * blocks * 32, maxLength: rows * blocks * 32 }),
    }),
  );

describe('int4', () => {
  test('unpack inverts pack', () => {
    fc.assert(
      fc.property(matrix, ({ rows, inputs, codes }) => {
        expect(unpackInt4(packInt4(codes, rows, inputs), rows, inputs)).toEqual(codes);
      }),
    );
  });

  test('the low and the high nibbles of a word are consecutive elements, as the kernels read them', () => {
    fc.assert(
      fc.property(matrix, ({ rows, inputs, codes }) => {
        const words = packInt4(codes, rows, inputs);
        const lanes: number[] = [];
        for (const word of words) {
          for (const half of [word & 0x0f0f0f0f, (word >>> 4) & 0x0f0f0f0f]) {
            lanes.push(...new Int8Array(Uint32Array.of(half).buffer));
          }
        }
        expect(lanes.map((u) => u - 8)).toEqual([...codes]);
      }),
    );
  });

  test('a known word: elements −8 … −1 are nibbles 0 … 7', () => {
    const codes = Int8Array.from({ length: 32 }, (_, k) => (k < 8 ? k - 8 : 0));
    expect(packInt4(codes, 1, 32)[0]!.toString(16)).toBe('73625140');
    expect(packInt4(codes, 1, 32)[1]!.toString(16)).toBe('88888888');
  });

  test.each([-9, 8, 127, -128])('code %i is refused with its place', (code) => {
    const codes = new Int8Array(64);
    codes[37] = code;
    expect(() => packInt4(codes, 2, 32)).toThrow(FormatError);
    expect(() => packInt4(codes, 2, 32)).toThrow(`row 1, input 5: expected −8 to 7, found ${code}`);
  });

  test.each([0, 16, 33, -32])('inputs %i are refused', (inputs) => {
    expect(() => packInt4(new Int8Array(64), 1, inputs)).toThrow('multiple of 32');
    expect(() => unpackInt4(new Uint32Array(8), 1, inputs)).toThrow('multiple of 32');
  });

  test('a wrong length is refused', () => {
    expect(() => packInt4(new Int8Array(32), 2, 32)).toThrow('expected [2, 32], found 32');
    expect(() => unpackInt4(new Uint32Array(4), 2, 32)).toThrow('expected [2, 32], found 32');
  });
});
