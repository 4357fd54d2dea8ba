import { expect, test } from 'vitest';
import { openNodeGpu } from '../gpu/node';
import { ropeTable as engineRopeTable } from '../kernels/rope-table';
import { expectClose, expectEqualInts, normals } from '../kernels/testing';
import { clipChannels, clipLosses, clipTensor, clipTokens } from '../quantize/clip';
import { attention, rmsNorm, ropeTable } from '../quantize/forward';
import { roundedTokens } from '../quantize/linear-problem';
import { scorePosition } from '../quantize/logit-scores';
import { type Matrix, matrix } from '../quantize/matrix';
import { siteIntegers, tokenIntegers } from '../quantize/migrate';
import { dequantize } from '../quantize/rtn';
import { tinyConfig } from '../quantize/testing';
import { attend, rmsNormRows } from './block-steps';
import { columnMap, columnMax, expandCodes, mapColumns, roundTokens, sumSquares } from './elementwise';
import { GpuClipSearch } from './gpu-clip';
import { scoreLogits } from './gpu-scorer';
import { GpuWork } from './gpu-work';
import { WeightCache } from './weight-cache';

const work = new GpuWork(await openNodeGpu());

function random(rows: number, cols: number, seed: number): Matrix {
  return matrix(rows, cols, normals(rows * cols, seed));
}

function uploaded(x: Matrix) {
  return { buffer: work.upload('x', x.data), rows: x.rows, cols: x.cols };
}

async function made(floats: number, make: (y: GPUBuffer) => Promise<void>): Promise<Float32Array> {
  const y = work.upload('y', new Float32Array(floats).fill(12345));
  await make(y);
  return work.readFloats(y, floats);
}

/** Most elements equal; the others, where x/s lies on float32's edge of a rounding boundary, one step off. */
function expectRounded(actual: Float32Array, expected: Float32Array, step: (i: number) => number): void {
  let other = 0;
  for (let i = 0; i < expected.length; i++) {
    const off = Math.abs(actual[i]! - expected[i]!);
    if (off > 1e-5 * Math.abs(expected[i]!)) other++;
    expect(off).toBeLessThanOrEqual(1.001 * step(i));
  }
  expect(other).toBeLessThanOrEqual(expected.length / 500);
}

test.each([
  [1, 1, 1],
  [3, 7, 40],
  [70, 64, 96],
])('merged integers of %i tokens, %i channels, %i columns', async (T, K, width) => {
  const x = random(T, K, 1);
  const gather = Uint32Array.from({ length: width }, (_, j) => (j * 5) % K);
  const steps = Float32Array.from({ length: width }, (_, j) => (j % 6 === 5 ? 0 : 0.1 + 0.01 * j));
  const offsets = Int32Array.from({ length: width }, (_, j) => (j % 6 === 5 ? 0 : (j % 3) * 8 - 8));
  const map = columnMap(work, steps, { gather, offset: offsets, divide: true, bits: 4 });
  const actual = await made(T * width, (y) => mapColumns(work, uploaded(x), map, y));
  const expected = siteIntegers(x, { gather, steps, pieces: steps, offsets }, 4).data;
  expectRounded(actual, expected, () => 1);
  const flat = { gather, offset: offsets, divide: true, bits: null };
  const value = await made(T * width, (y) => mapColumns(work, uploaded(x), columnMap(work, steps, flat), y));
  const shifted = columnMap(work, steps, { ...flat, shifted: true });
  const moved = await made(T * width, (y) => mapColumns(work, uploaded(x), shifted, y));
  // the division is right to 2.5 ulp and may be contracted with the addition: 16 · 2^-22
  expectClose(
    moved,
    value.map((v, i) => (steps[i % width]! > 0 ? v + offsets[i % width]! : 0)),
    (v) => 2 ** -20 * (Math.abs(v) + 8),
  );
});

test('per-token rounding, also of a token of zeros, with padding and as a difference', async () => {
  const x = random(9, 37, 2);
  x.data.fill(0, 37, 74);
  const wide = matrix(9, 64);
  for (let t = 0; t < 9; t++) wide.data.set(x.data.subarray(t * 37, (t + 1) * 37), t * 64);
  const expected = roundedTokens(wide, 0.8, 4);
  const { scales } = tokenIntegers(wide, 0.8, 4);
  const step = (i: number) => scales[Math.floor(i / 64)]!;
  const rounded = await made(9 * 64, (y) => roundTokens(work, uploaded(x), 0.8, 4, 64, y));
  expectRounded(rounded, expected.data, step);
  const lost = await made(9 * 64, (y) => roundTokens(work, uploaded(x), 0.8, 4, 64, y, true));
  // each is the float32 difference of two float32 numbers: one rounding
  expectClose(
    lost,
    wide.data.map((v, i) => v - rounded[i]!),
    (_, i) => 2 ** -22 * Math.abs(wide.data[i]!) || 1e-9,
  );
});

test('largest magnitudes of columns join over batches; squares add up', async () => {
  const [a, b] = [random(130, 67, 3), random(1, 67, 4)];
  const most = work.upload('most', new Float32Array(67));
  await columnMax(work, uploaded(a), most);
  await columnMax(work, uploaded(b), most);
  const expected = Float32Array.from({ length: 67 }, (_, k) =>
    [...a.data, ...b.data].reduce((m, v, i) => (i % 67 === k ? Math.max(m, Math.abs(v)) : m), 0),
  );
  expect([...(await work.readFloats(most, 67))]).toEqual([...expected]);
  const sums = await made(5, (y) => sumSquares(work, uploaded(a).buffer, 130 * 67, y, 5));
  const total = a.data.reduce((sum, v) => sum + v * v, 0);
  // at most 130·67/5 additions each: relative error far below 1e-4
  expectClose([sums.reduce((s, v) => s + v, 0)], [total], (sum) => 1e-4 * sum);
});

test('codes −8 … 7 times their scales are exact', async () => {
  const codes = Int8Array.from({ length: 3 * 32 }, (_, i) => (i % 16) - 8);
  const weight = { rows: 3, cols: 32, codes, scales: Float32Array.of(0.3, 1, 1e-3) };
  const buffer = await expandCodes(work, weight);
  expect([...(await work.readFloats(buffer, 96))]).toEqual([...dequantize(weight).data]);
});

test.each([1, 5, 70])('norm and grouped-query attention over %i tokens', async (T) => {
  const { numHeads, numKvHeads, headDim, hiddenSize, rmsNormEps } = tinyConfig;
  const qkv = random(T, (numHeads + 2 * numKvHeads) * headDim, 5);
  const expected = await attention(qkv, tinyConfig, ropeTable(tinyConfig, T));
  const rope = work.upload('rope', engineRopeTable(tinyConfig, T));
  const attended = await made(expected.data.length, (y) => attend(work, uploaded(qkv), tinyConfig, rope, y));
  // averages of normal values by float32 weights: 70 terms and an exponential of arguments up to 10, 2^-24·(70 + 2·10)·4
  expectClose(attended, expected.data, () => 3e-5);
  const x = random(T, hiddenSize, 6);
  const gamma = normals(hiddenSize, 7);
  const normed = await made(T * hiddenSize, (y) =>
    rmsNormRows(work, uploaded(x), work.upload('gamma', gamma), rmsNormEps, y),
  );
  // 64 squares, a root and three products in float32
  expectClose(normed, rmsNorm(x, gamma, rmsNormEps).data, (value) => 1e-5 * Math.abs(value) + 1e-9);
});

test('clip searches choose what the host chooses', async () => {
  const rows = random(96, 40, 8);
  for (let t = 0; t < 96; t++) rows.data[t * 40 + 3]! *= 30;
  rows.data[17] = 25;
  const absMax = Float32Array.from({ length: 40 }, (_, k) =>
    rows.data.reduce((m, v, i) => (i % 40 === k ? Math.max(m, Math.abs(v)) : m), 0),
  );
  const weights = random(70, 40, 9);
  const search = new GpuClipSearch(work, new WeightCache(work));
  const inputs = { rows, absMax, weights, actBits: 4 as const };
  for (const loss of clipLosses) {
    const [own, host] = [await search.channels(inputs, loss, 2), clipChannels(inputs, loss, 2)];
    const same = own.filter((ratio, k) => ratio === host[k]).length;
    expect(same).toBeGreaterThanOrEqual(38); // two candidates may be equal to float32
  }
  expectEqualInts([await search.tokens(inputs)], [await clipTokens(inputs)]);
  expectEqualInts([await search.tensor(inputs)], [await clipTensor(inputs)]);
});

test('scores of logits: first of equal largest, strong logits, a single position', async () => {
  for (const [T, V] of [
    [1, 1],
    [3, 5],
    [40, 301],
  ] as const) {
    const [own, reference] = [random(T, V, 1), random(T, V, 2)];
    own.data.forEach((value, i) => {
      own.data[i] = i % 3 === 0 ? 2 : 30 * value; // ties, and far from the others
    });
    const next = Uint32Array.from({ length: T }, (_, t) => (7 * t) % V);
    const actual = await scoreLogits(work, uploaded(own).buffer, uploaded(reference).buffer, next, V);
    for (let t = 0; t < T; t++) {
      const row = ({ data }: Matrix) => data.subarray(t * V, (t + 1) * V);
      const { nll, kl, same } = scorePosition(row(own), row(reference), next[t]!);
      // logits below 128, so each difference of two is within 2^-17; exp, log and sums of 301 terms stay within as much again
      expect(Math.abs(actual[3 * t]! - nll)).toBeLessThan(1e-4);
      expect(Math.abs(actual[3 * t + 1]! - kl)).toBeLessThan(1e-4 * Math.max(1, kl));
      expect(actual[3 * t + 2]).toBe(same);
    }
  }
});
