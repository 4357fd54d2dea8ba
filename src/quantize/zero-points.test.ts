import { expect, test } from 'vitest';
import { seededRandom } from '../format/random';
import { type Matrix, matrix } from './matrix';
import type { Method } from './method';
import { siteIntegers } from './migrate';
import { dequantize, roundToNearest } from './rtn';
import { channelScales } from './scales';
import { quantizeStaticSite } from './static-site';
import { rangeCenters, zeroPoints } from './zero-points';

const [T, K, N] = [64, 40, 24];

function uniform(rows: number, cols: number, seed: number, center: (k: number) => number): Matrix {
  const next = seededRandom(seed);
  return matrix(
    rows,
    cols,
    Float32Array.from({ length: rows * cols }, (_, i) => center(i % cols) + 2 * next() - 1),
  );
}

function site(rows: Matrix, method: Partial<Method> = {}) {
  const weight = uniform(N, K, 5, () => 0);
  const bias = Float32Array.from({ length: N }, (_, n) => n / 8);
  const absMax = Float32Array.from({ length: K }, (_, k) =>
    rows.data.reduce((most, value, i) => (i % K === k ? Math.max(most, Math.abs(value)) : most), 0),
  );
  const whole: Method = {
    scheme: 'mergequant',
    actBits: 4,
    reconstruct: 'none',
    alpha: 5,
    clipLoss: 'none',
    hadamard: null,
    quantizeWeights: roundToNearest,
    ...method,
  };
  const gamma = new Float32Array(K).fill(1);
  return { weight, bias, made: quantizeStaticSite(gamma, { weight, bias }, { absMax, sample: rows }, whole) };
}

/** Mean squared error of the site's output; rows are what the norm would emit, γ = 1. */
async function outputError(rows: Matrix, method: Partial<Method>): Promise<number> {
  const { weight, bias, made } = site(rows, method);
  const { norm, linear } = await made;
  if (!('mult' in norm)) throw new Error('expected a static norm');
  const { mult, gather, offset } = norm;
  const steps = mult.map((m) => (m > 0 ? 1 / m : 0));
  const q = siteIntegers(rows, { gather, steps, pieces: steps, offsets: offset }, 4);
  const stored = dequantize(linear.weight);
  let error = 0;
  for (let t = 0; t < rows.rows; t++) {
    for (let n = 0; n < N; n++) {
      let exact = bias[n]!;
      let own = linear.bias![n]!;
      for (let k = 0; k < K; k++) exact += weight.data[n * K + k]! * rows.data[t * K + k]!;
      for (let j = 0; j < q.cols; j++) own += stored.data[n * q.cols + j]! * q.data[t * q.cols + j]!;
      error += (own - exact) ** 2 / (rows.rows * N);
    }
  }
  return error;
}

test('values around 10 keep a step of their spread: zero points cut the error', async () => {
  const rows = uniform(T, K, 7, (k) => (k % 4 === 0 ? 10 : 0));
  const plain = await outputError(rows, {});
  const zeros = await outputError(rows, { zeroPoints: true });
  const without = await outputError(
    uniform(T, K, 7, () => 0),
    {},
  );
  // activations and weights alike are rounded as if the channels lay around 0
  expect(zeros).toBeLessThan(1.2 * without);
  expect(plain).toBeGreaterThan(10 * zeros);
});

test('channels around 0 get the integers and the bias that they had', async () => {
  const rows = uniform(T, K, 7, () => 0);
  for (let k = 0; k < K; k++) {
    rows.data[k] = 1; // both ends of the range are there
    rows.data[K + k] = -1;
  }
  const [plain, zeros] = [await site(rows).made, await site(rows, { zeroPoints: true }).made];
  expect(zeros.linear.weight.codes).toEqual(plain.linear.weight.codes);
  expect(zeros.linear.bias).toEqual(plain.linear.bias);
  expect([...(zeros.norm as { offset: Int32Array }).offset]).toEqual(new Array(64).fill(0));
});

test('every value of the sample lies within half a step of its integer minus the zero point', () => {
  const rows = uniform(T, K, 3, (k) => (k - 20) / 3);
  const centers = rangeCenters(rows);
  const halves = centers.map((center, k) => {
    let most = 0;
    for (let t = 0; t < T; t++) most = Math.max(most, Math.abs(rows.data[t * K + k]! - center));
    return most;
  });
  const steps = channelScales(halves, 4);
  const zeros = zeroPoints(centers, steps);
  const gather = Uint32Array.from(steps, (_, k) => k);
  const q = siteIntegers(rows, { gather, steps, pieces: steps, offsets: zeros }, 4);
  rows.data.forEach((value, i) => {
    const k = i % K;
    const restored = steps[k]! * (q.data[i]! - zeros[k]!);
    // half a step, and at an end up to half a step more, by which the rounded zero point moves the range
    expect(Math.abs(restored - value)).toBeLessThanOrEqual(1.0001 * steps[k]!);
  });
});
