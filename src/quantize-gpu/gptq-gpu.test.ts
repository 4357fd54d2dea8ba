import { describe, expect, test } from 'vitest';
import { openNodeGpu } from '../gpu/node';
import { expectClose, normals } from '../kernels/testing';
import { choleskyLower, NotPositiveDefiniteError } from '../quantize/cholesky';
import { type GptqOptions, gptqDefaults, gptqRound, outputError } from '../quantize/gptq';
import { type Matrix, matrix } from '../quantize/matrix';
import { crossGram } from '../quantize/products';
import { roundToNearest } from '../quantize/rtn';
import { choleskyGpu } from './factor';
import { gptqRoundGpu } from './gptq-gpu';
import { GpuWork } from './gpu-work';

const work = new GpuWork(await openNodeGpu());

/** Rows whose channels are correlated and of unlike size, as integers in [−8, 7]; channel 3 is always 0. */
function correlatedIntegers(rows: number, cols: number, seed: number): Matrix {
  const own = normals(rows * cols, seed);
  const shared = normals(rows, seed + 1);
  const values = own.map((v, i) => {
    const k = i % cols;
    const value = (1 + (k % 5)) * 0.6 * (v + shared[Math.floor(i / cols)]!);
    return k === 3 ? 0 : Math.max(-8, Math.min(7, Math.round(value)));
  });
  return matrix(rows, cols, values);
}

test.each([1, 63, 64, 65, 200])('Cholesky of %i columns is the factor of its matrix', async (n) => {
  const rows = correlatedIntegers(2 * n + 8, n, 5);
  const { gram } = await crossGram([{ quantized: rows, target: rows }], false);
  for (let i = 0; i < n; i++) gram.data[i * (n + 1)]! += 10;
  const buffer = work.upload('a', gram.data);
  await choleskyGpu(work, buffer, n);
  const actual = await work.readFloats(buffer, n * n);
  const product = new Float64Array(n * n);
  const expected = new Float64Array(n * n);
  let trace = 0;
  for (let i = 0; i < n; i++) trace = Math.max(trace, gram.data[i * (n + 1)]!);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      expected[i * n + j] = gram.data[i * n + j]!;
      for (let k = 0; k <= j; k++) product[i * n + j]! += actual[i * n + k]! * actual[j * n + k]!;
    }
  }
  // backward stable: |L·Lᵀ − A| ≤ (n + 2)·2^-24·|L|·|Lᵀ|, whose elements are at most the largest diagonal element (Cauchy–Schwarz)
  expectClose(product, expected, () => (n + 2) * 2 ** -24 * trace);
  work.free(buffer);
});

test('a matrix without a factor names its pivot', async () => {
  const n = 70;
  const a = new Float32Array(n * n);
  for (let i = 0; i < n; i++) a[i * (n + 1)] = i === 66 ? -1 : 2;
  await expect(choleskyGpu(work, work.upload('a', a), n)).rejects.toThrow(NotPositiveDefiniteError);
  await expect(choleskyGpu(work, work.upload('a', a), n)).rejects.toThrow(/pivot 66 of 70/);
  const host = Float64Array.from(a);
  expect(() => choleskyLower(host, n)).toThrow(/pivot 66 of 70/);
});

describe('GPTQ on the GPU', () => {
  const K = 160;
  const N = 70;
  const rows = correlatedIntegers(400, K, 7);
  const noise = normals(400 * K, 9);
  const float = matrix(
    400,
    K,
    rows.data.map((v, i) => v + 0.3 * noise[i]!),
  );
  const weights = matrix(N, K, normals(N * K, 11));

  test.each([
    { target: 'weights', order: false },
    { target: 'weights', order: true },
    { target: 'outputs', order: false },
    { target: 'outputs', order: true },
  ] as const)("agrees with the host's: target $target, order $order", async (choice) => {
    const options: GptqOptions = { ...gptqDefaults, ...choice };
    const { gram, cross } = await crossGram([{ quantized: rows, target: float }], true);
    const used = choice.target === 'outputs' ? cross : null;
    const host = await gptqRound(weights, gram, used, options);
    const [g, c] = [work.upload('g', gram.data), used && work.upload('c', used.data)];
    const gpu = await gptqRoundGpu(work, weights, g, c, options);
    work.free(g, ...(c ? [c] : []));
    // A code differs only where its unrounded value lies within float32's error of a boundary, and those behind it in its row.
    const same = Array.from({ length: N }, (_, n) =>
      host.codes.subarray(n * K, (n + 1) * K).every((code, k) => code === gpu.codes[n * K + k]),
    ).filter(Boolean).length;
    expect(same).toBeGreaterThanOrEqual(0.9 * N);
    expectClose(gpu.scales, host.scales, (scale) => 0.05 * scale);
    const lost = outputError(weights, gpu, gram);
    if (!used) {
      expect(lost).toBeLessThan(1.01 * outputError(weights, host, gram));
      expect(lost).toBeLessThan(0.8 * outputError(weights, roundToNearest(weights, null), gram));
    }
    // dead channels carry no code
    for (let n = 0; n < N; n++) expect(gpu.codes[n * K + 3]).toBe(0);
  });
});
