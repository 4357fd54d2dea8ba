import { describe, expect, test } from 'vitest';
import { seededRandom } from '../format/random';
import {
  hadamardRotation,
  paleyHadamard,
  powerOfTwoPart,
  rotate,
  rotateColumns,
  rotateRows,
} from './hadamard';

function uniform(count: number, seed: number): Float32Array {
  const next = seededRandom(seed);
  return Float32Array.from({ length: count }, () => next() - 0.5);
}

test.each([4, 8, 12, 20, 24, 28, 32, 36, 44, 60, 68, 76])(
  'Paley gives a Hadamard matrix of order %i',
  (order) => {
    const values = paleyHadamard(order)!;
    for (let i = 0; i < order; i++) {
      for (let j = 0; j < order; j++) {
        let product = 0;
        for (let k = 0; k < order; k++) product += values[i * order + k]! * values[j * order + k]!;
        expect(product).toBe(i === j ? order : 0);
      }
    }
    expect(values.every((value) => Math.abs(value) === 1)).toBe(true);
  },
);

test.each([6, 16, 52, 92])('order %i is not among them', (order) => {
  expect(paleyHadamard(order)).toBeNull();
});

test.each([
  { n: 768, power: 256 },
  { n: 11008, power: 256 },
  { n: 14336, power: 2048 },
  { n: 172, power: 4 },
  { n: 7, power: 1 },
])('the power of two in $n is $power', ({ n, power }) => {
  expect(powerOfTwoPart(n)).toBe(power);
});

describe('rotations', () => {
  test.each([
    { size: 64, order: null, walsh: 64 },
    { size: 128, order: null, walsh: 128 },
    { size: 256, order: null, walsh: 256 },
    { size: 4096, order: null, walsh: 4096 },
    { size: 8192, order: null, walsh: 8192 },
    { size: 5120, order: 20, walsh: 256 },
    { size: 3072, order: 12, walsh: 256 },
    { size: 3584, order: 28, walsh: 128 },
    { size: 576, order: 36, walsh: 16 },
    { size: 6656, order: 104, walsh: 64 },
    { size: 736, order: null, walsh: 32 },
    { size: 6, order: null, walsh: 2 },
  ])('$size is base $order times Walsh $walsh, and orthonormal', ({ size, order, walsh }) => {
    const rotation = hadamardRotation(size, 3);
    expect([rotation.base?.order ?? null, rotation.walsh]).toEqual([order, walsh]);
    // the images of a few unit vectors: length 1, orthogonal, all entries of one magnitude within what is mixed
    const images = [0, 1, size >> 1, size - 1].map((k) => {
      const unit = new Float32Array(size);
      unit[k] = 1;
      rotate(unit, rotation);
      return unit;
    });
    const magnitude = 1 / Math.sqrt((order ?? 1) * walsh);
    for (const image of images) {
      expect(image.every((value) => value === 0 || Math.abs(Math.abs(value) / magnitude - 1) < 1e-6)).toBe(
        true,
      );
    }
    images.forEach((a, i) => {
      images.forEach((b, j) => {
        const product = a.reduce((sum, value, k) => sum + value * b[k]!, 0);
        expect(product).toBeCloseTo(i === j ? 1 : 0, 5);
      });
    });
  });

  test('signs come from the seed', () => {
    const signs = (seed: number | null) => [...hadamardRotation(64, seed).signs];
    expect(signs(1)).toEqual(signs(1));
    expect(signs(1)).not.toEqual(signs(2));
    expect(new Set(signs(null))).toEqual(new Set([1]));
  });

  test('an odd size is refused', () => {
    expect(() => hadamardRotation(9, 1)).toThrow(/even number of channels, found 9/);
  });

  test('rotating columns and rows by the same matrix leaves products as they were', () => {
    const rotation = hadamardRotation(24, 5);
    const a = uniform(3 * 24, 1); // [3, 24]
    const b = uniform(24 * 4, 2); // [24, 4]
    const product = (x: Float32Array, y: Float32Array) =>
      Float64Array.from({ length: 12 }, (_, i) => {
        let sum = 0;
        for (let k = 0; k < 24; k++) sum += x[Math.floor(i / 4) * 24 + k]! * y[k * 4 + (i % 4)]!;
        return sum;
      });
    const before = product(a, b);
    rotateColumns(a, rotation);
    rotateRows(b, 4, rotation);
    // float32 rounding of 24 terms below 1/4
    product(a, b).forEach((value, i) => {
      expect(Math.abs(value - before[i]!)).toBeLessThan(1e-6);
    });
  });
});
