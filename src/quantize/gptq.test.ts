import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { choleskyLower, NotPositiveDefiniteError } from './cholesky';
import { factorHessian, gptqDefaults, gptqQuantizer, gptqRound, outputError, roundRow } from './gptq';
import { type Matrix, matrix } from './matrix';
import { crossGram } from './products';
import { roundToNearest } from './rtn';
import { correlatedIntegers, randomMatrix } from './testing-matrices';

const identity = (K: number) =>
  matrix(
    K,
    K,
    Float32Array.from({ length: K * K }, (_, i) => (i % (K + 1) === 0 ? 1 : 0)),
  );
const batchesOf = (rows: Matrix) => ({ sample: rows, batches: () => [{ quantized: rows, target: rows }] });

test('the Cholesky factor multiplies back to the matrix', () => {
  const a = randomMatrix(12, 30, 1);
  const gram = new Float64Array(144);
  for (let i = 0; i < 12; i++) {
    for (let j = 0; j < 12; j++) {
      for (let k = 0; k < 30; k++) gram[i * 12 + j]! += a.data[i * 30 + k]! * a.data[j * 30 + k]!;
    }
  }
  const L = gram.slice();
  choleskyLower(L, 12);
  for (let i = 0; i < 12; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0; k <= j; k++) sum += L[i * 12 + k]! * L[j * 12 + k]!;
      // 12 float64 products of size ≤ trace: far below 1e-10
      expect(Math.abs(sum - gram[i * 12 + j]!)).toBeLessThan(1e-10);
    }
  }
  expect(() => choleskyLower(Float64Array.of(1, 0, 2, 1), 2)).toThrow(NotPositiveDefiniteError);
});

test('U·Uᵀ is the damped Hessian, whatever the order', async () => {
  const rows = correlatedIntegers(80, 9, 3);
  const { gram } = await crossGram([{ quantized: rows, target: rows }], false);
  for (const order of [false, true]) {
    const factor = factorHessian(gram, { ...gptqDefaults, order });
    const mean = gram.data.reduce((sum, v, i) => (i % 10 === 0 ? sum + v : sum), 0) / 9;
    const u = (i: number, j: number) => (i <= j ? factor.transposed[j * 9 + i]! : 0);
    for (let i = 0; i < 9; i++) {
      for (let j = 0; j < 9; j++) {
        let sum = 0;
        for (let k = 0; k < 9; k++) sum += u(i, k) * u(j, k);
        const expected = gram.data[factor.order[i]! * 9 + factor.order[j]!]! + (i === j ? 0.01 * mean : 0);
        expect(Math.abs(sum - expected)).toBeLessThan(1e-9 * mean);
      }
    }
    if (order) expect([...factor.diagonal]).toEqual([...factor.diagonal].sort((a, b) => b - a));
  }
});

test('with an identity Hessian a row gets the codes of rounding to nearest', () => {
  const K = 40;
  const { data } = randomMatrix(1, K, 5);
  const factor = factorHessian(identity(K), gptqDefaults);
  const scale = 0.31;
  const root = Math.sqrt(1.01); // damping
  const { codes } = roundRow(
    Float64Array.from(data, (w) => w * root),
    factor,
    scale,
  );
  const nearest = Array.from(data, (w) => Math.max(-8, Math.min(7, Math.round(w / scale))));
  expect(Array.from(codes, (code) => code + 0)).toEqual(nearest.map((code) => code + 0));
});

test('two columns by hand: the second takes over what the first lost', () => {
  // H = [[2, 1], [1, 2]] = U·Uᵀ with U = [[√1.5, √0.5], [0, √2]]. w = (1.4, 1.4) at scale 1: column 0 rounds to 1 and loses
  // 0.4, which column 1 should answer with 1.4 + 0.4·H01/H11 = 1.6: code 2, where rounding to nearest gives 1.
  const factor = factorHessian(matrix(2, 2, Float32Array.of(2, 1, 1, 2)), { ...gptqDefaults, damping: 0 });
  const [u00, u01, u11] = [Math.sqrt(1.5), Math.sqrt(0.5), Math.sqrt(2)];
  expect([...factor.transposed].map((v) => v.toFixed(12))).toEqual(
    [u00, 0, u01, u11].map((v) => v.toFixed(12)),
  );
  const targets = Float64Array.of(1.4 * u00, 1.4 * u01 + 1.4 * u11);
  const { codes, scale, loss } = roundRow(targets, factor, 1);
  expect([...codes]).toEqual([1, 2]);
  // s = ⟨t, qU⟩/‖qU‖² = w·H·q / q·H·q = 12.6/14 = 0.9; loss = w·H·w − s·w·H·q = 11.76 − 11.34
  expect(scale).toBeCloseTo(0.9, 6);
  expect(loss).toBeCloseTo(0.42, 6);
});

describe('on the calibration Hessian', () => {
  test.each([false, true])('GPTQ is never worse than rounding to nearest (order %s)', async (order) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 1e6 }), fc.integer({ min: 2, max: 48 }), async (seed, K) => {
        const weights = randomMatrix(6, K, seed);
        const rows = correlatedIntegers(4 * K, K, seed + 7);
        const { gram } = await crossGram([{ quantized: rows, target: rows }], false);
        const nearest = outputError(weights, roundToNearest(weights, batchesOf(rows)), gram);
        const gptq = outputError(
          weights,
          await gptqRound(weights, gram, null, { ...gptqDefaults, order }),
          gram,
        );
        expect(gptq).toBeLessThanOrEqual(nearest);
      }),
      { numRuns: 20 },
    );
  });

  test('a dead column gets code 0, a row of zeros the scale 1', async () => {
    const rows = correlatedIntegers(64, 8, 9);
    for (let t = 0; t < 64; t++) rows.data[t * 8 + 3] = 0;
    const weights = randomMatrix(4, 8, 10);
    weights.data.fill(0, 0, 8);
    const { codes, scales } = await gptqQuantizer(gptqDefaults)(weights, batchesOf(rows));
    for (let n = 0; n < 4; n++) expect(codes[n * 8 + 3]).toBe(0);
    expect(scales[0]).toBe(1);
    expect(codes.some((code) => code !== 0)).toBe(true);
  });

  test('fitting the float outputs answers for clipped inputs', async () => {
    const K = 16;
    const target = randomMatrix(400, K, 21);
    // inputs clipped hard: the best weights on them are larger than the float ones
    const quantized = matrix(
      400,
      K,
      target.data.map((v) => Math.max(-1, Math.min(1, Math.round(v)))),
    );
    const weights = randomMatrix(5, K, 22);
    const problem = { sample: quantized, batches: () => [{ quantized, target }] };
    const errorOf = async (mode: 'weights' | 'outputs') => {
      const q = await gptqQuantizer({ ...gptqDefaults, target: mode })(weights, problem);
      let error = 0;
      for (let t = 0; t < 400; t++) {
        for (let n = 0; n < 5; n++) {
          let y = 0;
          for (let k = 0; k < K; k++) {
            y +=
              weights.data[n * K + k]! * target.data[t * K + k]! -
              q.scales[n]! * q.codes[n * K + k]! * quantized.data[t * K + k]!;
          }
          error += y * y;
        }
      }
      return error;
    };
    expect(await errorOf('outputs')).toBeLessThan(0.9 * (await errorOf('weights')));
  });

  test('needs calibration', async () => {
    await expect(gptqQuantizer(gptqDefaults)(randomMatrix(2, 4, 1), null)).rejects.toThrow(/--calibration/);
  });
});
