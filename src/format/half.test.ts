import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FormatError } from './errors';
import { bf16BitsToF32, f16BitsToF32, f32ToF16Bits } from './half';

/** The definition of binary16, in float64 arithmetic. */
function f16Value(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const mantissa = half & 0x3ff;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

const finiteHalves = Array.from({ length: 0x7c00 }, (_, half) => f16Value(half)); // ascending

/** Nearest finite float16 by bisection over all of them, ties to the even code. */
function nearestHalf(value: number): number {
  const magnitude = Math.abs(value);
  let low = 0;
  let high = finiteHalves.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (finiteHalves[middle]! <= magnitude) low = middle;
    else high = middle;
  }
  const below = magnitude - finiteHalves[low]!;
  const above = finiteHalves[high]! - magnitude;
  const code = below < above || (below === above && low % 2 === 0) ? low : high;
  return code | (Object.is(value, -0) || value < 0 ? 0x8000 : 0);
}

const f32Bits = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]!;
const fromF32Bits = (...words: number[]) => new Float32Array(Uint32Array.from(words).buffer);

describe('float16', () => {
  test('every one of the 65536 halves becomes the float32 that its definition says', () => {
    const floats = f16BitsToF32(Uint16Array.from({ length: 0x10000 }, (_, half) => half));
    for (let half = 0; half < 0x10000; half++) {
      if (!Object.is(floats[half], Math.fround(f16Value(half)))) {
        expect.fail(`${half.toString(16)}: expected ${f16Value(half)}, found ${floats[half]}`);
      }
    }
  });

  test('every half survives the round trip through float32, NaN as a NaN with its quiet bit', () => {
    const halves = Uint16Array.from({ length: 0x10000 }, (_, half) => half);
    const back = f32ToF16Bits(f16BitsToF32(halves));
    const expected = halves.map((half) => (Number.isNaN(f16Value(half)) ? half | 0x200 : half));
    expect(Buffer.from(back.buffer).equals(Buffer.from(expected.buffer))).toBe(true);
  });

  test('both sides of every boundary between two halves round as the definition says', () => {
    const values: number[] = [];
    for (let half = 0; half < 0x7bff; half++) {
      const middle = (finiteHalves[half]! + finiteHalves[half + 1]!) / 2; // exact in float32
      const bits = f32Bits(middle);
      values.push(...fromF32Bits(bits - 1, bits, bits + 1));
    }
    const halves = f32ToF16Bits(Float32Array.from(values));
    const wrong = values.findIndex((value, i) => halves[i] !== nearestHalf(value));
    expect(wrong === -1 ? null : values[wrong]).toBeNull();
  });

  test('any float32 within range rounds to the nearest half', () => {
    const inRange = fc.float({ min: -65504, max: 65504, noNaN: true });
    fc.assert(
      fc.property(fc.array(inRange, { maxLength: 20 }), (values) => {
        expect([...f32ToF16Bits(Float32Array.from(values))]).toEqual(values.map(nearestHalf));
      }),
      { numRuns: 500 },
    );
  });

  test('infinities stay, NaN stays NaN whatever its payload', () => {
    const words = fromF32Bits(0x7f800000, 0xff800000, 0x7f800001, 0x7fc00000, 0xffffffff);
    expect([...f32ToF16Bits(words)]).toEqual([0x7c00, 0xfc00, 0x7e00, 0x7e00, 0xffff]);
  });

  test('overflow is refused with its count, or clamped when told', () => {
    const belowLimit = fromF32Bits(0x477fefff)[0]!; // the float32 before 65520
    const values = Float32Array.of(65520, 1, -1e30, belowLimit);
    expect(() => f32ToF16Bits(values)).toThrow(FormatError);
    expect(() => f32ToF16Bits(values)).toThrow('2 of 4');
    expect([...f32ToF16Bits(values, { overflow: 'clamp' })]).toEqual([0x7bff, 0x3c00, 0xfbff, 0x7bff]);
  });

  test('a view in the middle of a buffer converts only its own elements', () => {
    const buffer = Float32Array.of(9, 1, 2, 9);
    expect([...f32ToF16Bits(buffer.subarray(1, 3))]).toEqual([0x3c00, 0x4000]);
  });
});

test('bfloat16 is the upper half of a float32', () => {
  const bits = Uint16Array.of(0x3f80, 0xc040, 0x7f80, 0x0001, 0x8000);
  expect([...bf16BitsToF32(bits)]).toEqual([1, -3, Number.POSITIVE_INFINITY, 2 ** -133, -0]);
  expect(bf16BitsToF32(Uint16Array.of(0x7fc0))[0]).toBeNaN();
});
