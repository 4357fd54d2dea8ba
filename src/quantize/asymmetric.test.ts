import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../format/random';
import { levelDistance } from '../format/weight-grid';
import {
  type AsymmetricGrid,
  asymmetricNearest,
  fitLevels,
  nearestCode,
  packOnGrid,
  unpackOnGrid,
} from './asymmetric';
import { clipChannels } from './clip';
import { factorHessian, gptqDefaults, gptqRound, outputError } from './gptq';
import { roundRowOnGrid } from './gptq-grid';
import { matrix } from './matrix';
import { type PrepareOptions, prepareDefaults, weightGridOf } from './prepare-options';
import { crossGram } from './products';
import { dequantize } from './rtn';
import { correlatedIntegers, randomMatrix } from './testing-matrices';

const squaredError = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0);

describe('levels of a group', () => {
  test('values on a grid come back exactly', () => {
    const value = fc.record({
      ...{ step: fc.integer({ min: 1, max: 1000 }), zero: fc.integer({ min: 0, max: 112 }) },
      ...{ seed: fc.integer({ min: 1, max: 1e6 }), bits: fc.constantFrom(3 as const, 4 as const) },
    });
    fc.assert(
      fc.property(value, ({ step, zero, seed, bits }) => {
        const next = seededRandom(seed);
        const most = 2 ** bits - 1;
        const levels = Array.from({ length: 64 }, (_, k) =>
          k < 2 ? k * most : Math.floor(next() * (most + 1)),
        );
        const values = levels.map((u) => (step / 256) * (levelDistance(bits) * u - zero));
        const fitted = fitLevels(values, null, bits);
        const restored = values.map((v) => fitted.step * nearestCode(v, fitted, bits));
        const range = Math.max(...values, 0) - Math.min(...values, 0);
        // the zero point of a grid without the value 0 may lie beyond 127, where only a coarser one holds both
        if (zero > levelDistance(bits) * most) return;
        expect(Math.sqrt(squaredError(values, restored) / 64) / range).toBeLessThan(1e-4);
      }),
    );
  });

  test('never worse than from the smallest to the largest value, and better for normal ones', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { data } = randomMatrix(1, 128, seed);
      const low = Math.min(...data, 0);
      const step = (Math.max(...data, 0) - low) / 7;
      const widest = data.map((v) => low + step * Math.round((v - low) / step));
      const fitted = fitLevels(data, null, 3);
      const restored = data.map((v) => fitted.step * nearestCode(v, fitted, 3));
      expect(squaredError(data, restored)).toBeLessThan(squaredError(data, widest));
    }
  });

  test('normal values get levels halfway around 0, which whole zero points do not allow', () => {
    const { data } = randomMatrix(1, 20_000, 3);
    const { step, zero } = fitLevels(data, null, 3);
    // the best 8 equidistant levels of a normal distribution: 0.586 apart (Max 1960), 3.5 of them on each side
    expect(16 * step).toBeGreaterThan(0.55);
    expect(16 * step).toBeLessThan(0.63);
    expect(Math.abs(zero / 16 - 3.5)).toBeLessThan(0.15);
  });

  test('columns that count more are fitted better; zeros have a usable step', () => {
    const { data } = randomMatrix(1, 96, 5);
    const weights = Float32Array.from(data, (_, k) => (k < 8 ? 1000 : 1));
    const errorOf = (levels: ReturnType<typeof fitLevels>) =>
      data.slice(0, 8).reduce((sum, v) => sum + (v - levels.step * nearestCode(v, levels, 3)) ** 2, 0);
    expect(errorOf(fitLevels(data, weights, 3))).toBeLessThan(errorOf(fitLevels(data, null, 3)));
    expect(fitLevels(new Float32Array(32), null, 3)).toEqual({ step: 1, zero: 0 });
  });
});

describe('a matrix', () => {
  const grids: AsymmetricGrid[] = [
    { bits: 3, groupSize: null },
    { bits: 3, groupSize: 64 },
    { bits: 4, groupSize: 32 },
  ];

  test.each(grids)('is what its words say: $bits bits in $groupSize', async (grid) => {
    const quantized = await asymmetricNearest(grid)(randomMatrix(5, 160, 7), null);
    const { weight, grid: words } = packOnGrid(quantized, quantized.grid!);
    expect(weight.length).toBe((5 * 160 * grid.bits) / 32);
    expect(words.length).toBe(5 * (grid.groupSize === null ? 1 : Math.ceil(160 / grid.groupSize)));
    expect(unpackOnGrid(weight, words, grid, 5)).toEqual(quantized);
  });

  test('smaller groups and more bits lose less', async () => {
    const weights = randomMatrix(16, 256, 8);
    weights.data.forEach((v, i) => {
      weights.data[i] = v * (1 + Math.floor((i % 256) / 64)); // groups of unlike sizes
    });
    const errorOf = async (grid: AsymmetricGrid) =>
      squaredError(dequantize(await asymmetricNearest(grid)(weights, null)).data, weights.data);
    const [row, groups, fourBits] = [
      await errorOf(grids[0]!),
      await errorOf(grids[1]!),
      await errorOf(grids[2]!),
    ];
    expect(groups).toBeLessThan(0.9 * row);
    expect(fourBits).toBeLessThan(0.4 * groups);
  });
});

describe('GPTQ on levels', () => {
  test.each([
    { groupSize: 32, order: false },
    { groupSize: 32, order: true },
    { groupSize: null, order: false },
  ])('loses less than rounding to nearest: %j', async ({ groupSize, order }) => {
    const grid = { bits: 3, groupSize } as const;
    const weights = randomMatrix(12, 96, 11);
    const rows = correlatedIntegers(400, 96, 12);
    const { gram } = await crossGram([{ quantized: rows, target: rows }], false);
    const problem = { sample: rows, batches: () => [{ quantized: rows, target: rows }] };
    const nearest = outputError(weights, await asymmetricNearest(grid)(weights, problem), gram);
    const rounded = await gptqRound(weights, gram, null, { ...gptqDefaults, order, grid });
    expect(outputError(weights, rounded, gram)).toBeLessThan(0.8 * nearest);
    expect(rounded.scales.length).toBe(12 * (groupSize === null ? 1 : 3));
    expect(packOnGrid(rounded, rounded.grid!).weight.length).toBe((12 * 96 * 3) / 32); // every code is a level
  });

  test('the loss it reports is the one of its values, and its steps are the best for its codes', () => {
    const K = 64;
    const { data } = correlatedIntegers(200, K, 14);
    const gram = matrix(K, K);
    for (let t = 0; t < 200; t++) {
      for (let i = 0; i < K; i++) {
        for (let j = 0; j < K; j++) gram.data[i * K + j]! += data[t * K + i]! * data[t * K + j]!;
      }
    }
    const factor = factorHessian(gram, gptqDefaults);
    const targets = Float64Array.from(randomMatrix(1, K, 15).data, (v) => 10 * v);
    const { codes, levels, loss } = roundRowOnGrid(targets, factor, { bits: 3, groupSize: 32 });
    const lossAt = (steps: readonly number[]) => {
      let sum = 0;
      for (let j = 0; j < K; j++) {
        let component = 0;
        for (let i = 0; i <= j; i++) {
          component += steps[Math.floor(i / 32)]! * codes[i]! * factor.transposed[j * K + i]!;
        }
        sum += (targets[j]! - component) ** 2;
      }
      return sum;
    };
    const steps = levels.map(({ step }) => step);
    expect(Math.abs(loss / lossAt(steps) - 1)).toBeLessThan(1e-9);
    for (const [g, factorOf] of [0, 1].flatMap((g) => [0.99, 1.01].map((f) => [g, f] as const))) {
      expect(lossAt(steps.map((step, h) => (h === g ? step * factorOf : step)))).toBeGreaterThan(loss);
    }
  });
});

test('Eq. 7 weighs the error of the levels it is given', () => {
  const rows = randomMatrix(60, 64, 21);
  const weights = randomMatrix(6, 64, 22);
  const absMax = new Float32Array(64);
  rows.data.forEach((v, i) => {
    absMax[i % 64] = Math.max(absMax[i % 64]!, Math.abs(v));
  });
  const weightGrid = { bits: 3, groupSize: 32 } as const;
  // by hand, for one channel: Σ_t (x − s·q)² + Σ_n (W' − W̃')² with the levels of unclipped scales
  const k = 40;
  const scaleOf = (ratio: number, channel = k) => Math.fround((ratio * absMax[channel]!) / 7);
  const threshold = (() => {
    const scales = absMax.map((_, channel) => scaleOf(1, channel));
    const mean = scales.reduce((a, b) => a + b, 0) / 64;
    return mean + 5 * Math.sqrt(scales.reduce((sum, s) => sum + (s - mean) ** 2, 0) / 64);
  })();
  const lossOf = (ratio: number) => {
    let loss = 0;
    for (let t = 0; t < 60; t++) {
      const x = rows.data[t * 64 + k]!;
      const s = scaleOf(ratio);
      loss += (x - s * Math.max(-8, Math.min(7, Math.round(x / s)))) ** 2;
    }
    for (let n = 0; n < 6; n++) {
      const group = Array.from({ length: 32 }, (_, i) => 32 + i).map(
        (channel) => Math.min(scaleOf(1, channel), threshold) * weights.data[n * 64 + channel]!,
      );
      const low = Math.min(...group, 0);
      const step = (Math.max(...group, 0) - low) / 7;
      const value = (scaleOf(ratio) * weights.data[n * 64 + k]! - low) / step;
      loss += (step * (value - Math.round(value))) ** 2;
    }
    return loss;
  };
  const ratios = Array.from({ length: 11 }, (_, i) => (20 - i) / 20);
  const best = ratios.reduce((a, b) => (lossOf(b) < lossOf(a) ? b : a));
  const found = clipChannels({ rows, absMax, weights, actBits: 4, weightGrid }, 'paper', 5);
  expect(found[k]).toBe(Math.fround(best));
});

test('options that exclude each other are refused', () => {
  const grid = (options: Partial<PrepareOptions>) =>
    weightGridOf({ ...prepareDefaults, checkpoint: '', out: '', ...options });
  expect(grid({})).toBeNull();
  expect(grid({ weightBits: 3 })).toEqual({ bits: 3, groupSize: null });
  expect(grid({ groupSize: 128 })).toEqual({ bits: 4, groupSize: 128 });
  expect(grid({ weightAsymmetric: true })).toEqual({ bits: 4, groupSize: null });
  expect(() => grid({ groupSize: 48 })).toThrow(
    'group size: expected a multiple of 32 up to 131072, found 48',
  );
  expect(() => grid({ weightBits: 3, weightAsymmetric: false })).toThrow(
    '3-bit weights: expected asymmetric',
  );
  expect(() => grid({ weightBits: 3, scheme: 'fp16' })).toThrow('expected a quantized scheme, found fp16');
});
