import { expect, test } from 'vitest';
import { matrix } from './matrix';
import { smoothedInputs, smoothingFactors } from './smooth';

test('factors balance activations and weights, and dead channels keep 1', () => {
  const weight = matrix(2, 3, Float32Array.of(0.25, 1, 0, -0.5, 1, 3));
  // √(8/0.5), √(4/1), 0 activations
  expect([...smoothingFactors(Float32Array.of(8, 4, 0), weight, 0.5)]).toEqual([4, 2, 1]);
});

test('the smoothed linear answers the same, on smoothed inputs', () => {
  const weights = matrix(2, 2, Float32Array.of(0.25, 1, -0.5, 1));
  const rows = matrix(2, 2, Float32Array.of(8, 1, -2, 4));
  const absMax = Float32Array.of(8, 4);
  const factors = smoothingFactors(absMax, weights, 0.5);
  const smoothed = smoothedInputs({ rows, absMax, weights, actBits: 4 }, factors);
  expect([...smoothed.absMax]).toEqual([2, 2]);
  const product = (x: Float32Array, w: Float32Array) =>
    [0, 1].flatMap((t) => [0, 1].map((n) => x[2 * t]! * w[2 * n]! + x[2 * t + 1]! * w[2 * n + 1]!));
  expect(product(smoothed.rows.data, smoothed.weights.data)).toEqual(product(rows.data, weights.data));
});
