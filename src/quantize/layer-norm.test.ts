import { expect, test } from 'vitest';
import { seededRandom } from '../format/random';
import { rmsNorm } from './forward';
import { centerOutputs, foldNormBias, NormBiasError } from './layer-norm';
import { type Matrix, matrix } from './matrix';
import { mergeNorm, migrateWeights, siteIntegers } from './migrate';
import { reconstruct } from './reconstruct';

const next = seededRandom(5);
/** Multiples of 1/8 below 4 in size: sums and products of a few of them are exact in float32. */
const eighths = (length: number) => Float32Array.from({ length }, () => Math.floor(next() * 64 - 32) / 8);

test('β becomes a bias: the migrated linear on integers answers as the float linear on y + β, to the last bit', () => {
  const [T, K, N] = [5, 32, 6];
  const steps = Float32Array.from({ length: K }, (_, k) => 2 ** ((k % 3) - 3));
  const weight = matrix(N, K, eighths(N * K));
  const beta = eighths(K);
  const bias = eighths(N);
  const linear = foldNormBias({ weight, bias }, beta);
  const columns = reconstruct(steps, { mode: 'none', alpha: 5, actBits: 8, hessianDiagonal: steps });
  // norm outputs without β that lie on the steps: rounding loses nothing, so that only the migration is tested
  const normed = matrix(
    T,
    K,
    Float32Array.from({ length: T * K }, (_, i) => steps[i % K]! * Math.floor(next() * 200 - 100)),
  );
  const integers = siteIntegers(normed, columns, 8);
  const migrated = migrateWeights(weight, columns);
  for (let t = 0; t < T; t++) {
    for (let n = 0; n < N; n++) {
      let [merged, direct] = [linear.bias![n]!, bias[n]!];
      for (let k = 0; k < K; k++) {
        merged += integers.data[t * K + k]! * migrated.data[n * K + k]!;
        direct += weight.data[n * K + k]! * (normed.data[t * K + k]! + beta[k]!);
      }
      expect(merged).toBe(direct);
    }
  }
  expect([...mergeNorm(new Float32Array(K).fill(1), columns)]).toEqual([...steps].map((s) => 1 / s));
});

test('the bias is b + W·β, and 0 + W·β where there was none', () => {
  const weight = matrix(2, 3, Float32Array.of(1, 2, 3, -1, 0.5, 4));
  const beta = Float32Array.of(2, -4, 0.25);
  expect([...foldNormBias({ weight, bias: null }, beta).bias!]).toEqual([-5.25, -3]);
  expect([...foldNormBias({ weight, bias: Float32Array.of(10, 1) }, beta).bias!]).toEqual([4.75, -2]);
  expect(() => foldNormBias({ weight, bias: null }, Float32Array.of(1))).toThrow(NormBiasError);
});

test('behind centered linears RMSNorm is LayerNorm', () => {
  const [D, K] = [8, 3];
  const linear = { weight: matrix(D, K, eighths(D * K)), bias: eighths(D) };
  const centered = centerOutputs(linear);
  const input = eighths(K);
  const outputs = ({ weight, bias }: { weight: Matrix; bias: Float32Array }) =>
    Float32Array.from({ length: D }, (_, n) => {
      let sum = bias[n]!;
      for (let k = 0; k < K; k++) sum += weight.data[n * K + k]! * input[k]!;
      return sum;
    });
  const x = outputs(linear);
  const mean = x.reduce((sum, value) => sum + value, 0) / D;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / D;
  const gamma = eighths(D);
  const expected = [...x].map((value, k) => ((value - mean) / Math.sqrt(variance + 1e-5)) * gamma[k]!);
  const own = { weight: centered.weight, bias: centered.bias! };
  // division by D = 8 and sums of eighths are exact: only the norm's own float32 rounding remains
  rmsNorm(matrix(1, D, outputs(own)), gamma, 1e-5).data.forEach((value, k) => {
    expect(Math.abs(value - expected[k]!)).toBeLessThan(4 * 2 ** -23 * Math.abs(expected[k]!) + 1e-12);
  });
});
