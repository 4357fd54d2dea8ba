import { expect, test } from 'vitest';
import { hostRows } from './layer-device';
import { matrix } from './matrix';
import { smoothingFactors, smoothSite } from './smooth';

test('factors balance activations and weights, and dead channels keep 1', () => {
  const weight = matrix(2, 3, Float32Array.of(0.25, 1, 0, -0.5, 1, 3));
  // √(8/0.5), √(4/1), 0 activations
  expect([...smoothingFactors(Float32Array.of(8, 4, 0), weight, 0.5)]).toEqual([4, 2, 1]);
});

test('the smoothed linear answers the same, on smoothed inputs', () => {
  const weight = matrix(2, 2, Float32Array.of(0.25, 1, -0.5, 1));
  const rows = matrix(2, 2, Float32Array.of(8, 1, -2, 4));
  const stats = { absMax: Float32Array.of(8, 4), sample: rows, rows: [rows] };
  const smoothed = smoothSite(Float32Array.of(1, 1), { weight, bias: null }, stats, 0.5);
  expect([...smoothed.gamma]).toEqual([0.25, 0.5]);
  expect([...smoothed.stats.absMax]).toEqual([2, 2]);
  const product = (x: Float32Array, w: Float32Array) =>
    [0, 1].flatMap((t) => [0, 1].map((n) => x[2 * t]! * w[2 * n]! + x[2 * t + 1]! * w[2 * n + 1]!));
  const [own] = [...hostRows(smoothed.stats.rows!)];
  expect(product(own!.data, smoothed.linear.weight.data)).toEqual(product(rows.data, weight.data));
});
