import { describe, expect, test } from 'vitest';
import type { LayerStats } from './calibrate';
import { clipChannels, clipTensor, clipTokens } from './clip';
import type { LayerWeights } from './layer';
import { matrix, roundHalfEven } from './matrix';
import { tokenIntegers } from './migrate';
import { type Method, quantizeLayer } from './quantize-layer';
import { dequantize, roundToNearest } from './rtn';
import { channelAbsMax, channelScales } from './scales';
import { tinyConfig } from './testing';
import { randomMatrix } from './testing-matrices';

test('rounding goes to the even integer at halves', () => {
  const values = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999, -2.5001];
  expect(values.map((value) => roundHalfEven(value) + 0)).toEqual([-2, -2, 0, 0, 2, 2, 2, -3]);
});

test('Eq. 1 maps each channel maximum to Qmax', () => {
  const rows = matrix(2, 3, Float32Array.of(1, -14, 0, -3.5, 7, 0));
  expect([...channelScales(channelAbsMax(rows), 4)]).toEqual([0.5, 2, 0]);
  expect([...channelScales(channelAbsMax(rows), 4, 0.5)]).toEqual([0.25, 1, 0]);
});

describe('rounding to nearest', () => {
  test('weights on a grid come back exactly', () => {
    const codes = Float32Array.from({ length: 64 }, (_, k) => (k % 16) - 8);
    const quantized = roundToNearest(
      matrix(
        2,
        32,
        codes.map((code) => code * 0.25),
      ),
      null,
    );
    const restored = dequantize(quantized).data;
    // −8 · 0.25 is the largest magnitude; the grid holds 7/8 of max/7 up to 0.5 %, so codes are found exactly
    expect([...quantized.codes]).toEqual([...codes]);
    restored.forEach((value, k) => {
      expect(Math.abs(value - codes[k]! * 0.25)).toBeLessThanOrEqual(0.011 * Math.abs(codes[k]! * 0.25));
    });
  });

  test('the searched scale is never worse than the widest one, and better for Gaussian rows', () => {
    const weights = randomMatrix(16, 256, 3);
    const restored = dequantize(roundToNearest(weights, null));
    for (let n = 0; n < 16; n++) {
      const row = weights.data.subarray(n * 256, (n + 1) * 256);
      const widest = Math.max(...row.map(Math.abs)) / 7;
      let plain = 0;
      let searched = 0;
      row.forEach((value, k) => {
        plain += (value - widest * Math.round(value / widest)) ** 2;
        searched += (value - restored.data[n * 256 + k]!) ** 2;
      });
      expect(searched).toBeLessThan(plain);
    }
  });

  test('a row of zeros gives zero codes and a usable scale', () => {
    const quantized = roundToNearest(matrix(1, 32), null);
    expect([...quantized.codes]).toEqual(new Array(32).fill(0));
    expect(quantized.scales[0]).toBe(1);
  });
});

describe('clipping', () => {
  test.each(['paper', 'output'] as const)(
    '%s: a rare peak is clipped, a two-valued channel is not',
    (loss) => {
      const rows = matrix(400, 2);
      for (let t = 0; t < 400; t++) {
        rows.data[2 * t] = t === 0 ? 10 : Math.sin(t) * 4.4;
        rows.data[2 * t + 1] = t % 2 === 0 ? 3 : -3;
      }
      const weights = matrix(4, 2, Float32Array.of(1, 1, -1, 1, 1, -1, -1, -1));
      const ratios = clipChannels({ rows, absMax: channelAbsMax(rows), weights, actBits: 4 }, loss, 5);
      expect(ratios[0]).toBeLessThan(0.7);
      expect(ratios[1]).toBe(1);
    },
  );

  test('token and tensor ratios ignore a peak that the linear does not read', async () => {
    const rows = randomMatrix(64, 32, 5);
    const weights = randomMatrix(8, 32, 6);
    for (let t = 0; t < 64; t++) rows.data[t * 32] = 12;
    for (let n = 0; n < 8; n++) weights.data[n * 32] = 0;
    const inputs = { rows, absMax: channelAbsMax(rows), weights, actBits: 4 as const };
    expect(await clipTokens(inputs)).toBe(0.5);
    // 4-bit steps suit normal values best when cut at 2 to 3.5 deviations, and the peak is 12 of them
    const ratio = await clipTensor(inputs);
    expect(12 * ratio).toBeGreaterThan(1.5);
    expect(12 * ratio).toBeLessThan(4);
  });

  test('dynamic integers use the whole range per token', () => {
    const { integers, scales } = tokenIntegers(matrix(2, 2, Float32Array.of(7, -3.5, 0, 0)), 1, 4);
    expect([...integers.data]).toEqual([7, -4, 0, 0]);
    expect([...scales]).toEqual([1, 0]);
  });
});

/** Random layer and statistics of the tiny shape. */
function randomLayer(): { layer: LayerWeights; stats: LayerStats } {
  const { hiddenSize: D, intermediateSize: F, numHeads, numKvHeads, headDim } = tinyConfig;
  const linear = (rows: number, cols: number, seed: number) => ({
    weight: randomMatrix(rows, cols, seed),
    bias: null,
  });
  const site = (cols: number, seed: number) => {
    const sample = randomMatrix(40, cols, seed);
    return { sample, absMax: channelAbsMax(sample) };
  };
  return {
    layer: {
      attnNorm: new Float32Array(D).fill(1),
      qkv: linear((numHeads + 2 * numKvHeads) * headDim, D, 1),
      o: linear(D, numHeads * headDim, 2),
      mlpNorm: new Float32Array(D).fill(1),
      gateUp: linear(2 * F, D, 3),
      down: linear(D, F, 4),
    },
    stats: { attn: site(D, 5), o: site(numHeads * headDim, 6), mlp: site(D, 7), down: site(F, 8) },
  };
}

const method: Method = {
  scheme: 'mergequant',
  actBits: 4,
  reconstruct: 'none',
  alpha: 5,
  clipLoss: 'output',
  hadamard: null,
  quantizeWeights: roundToNearest,
};

test('powers of two in γ, undone in the weights, change no bit of multipliers and codes', async () => {
  const { layer, stats } = randomLayer();
  const D = tinyConfig.hiddenSize;
  const factor = (k: number) => 2 ** ((k % 9) - 4);
  const byColumn = (values: Float32Array, scale: (k: number) => number) =>
    values.map((v, i) => v * scale(i % D));
  const injected: LayerWeights = {
    ...layer,
    attnNorm: byColumn(layer.attnNorm, factor),
    qkv: {
      weight: { ...layer.qkv.weight, data: byColumn(layer.qkv.weight.data, (k) => 1 / factor(k)) },
      bias: null,
    },
  };
  const injectedStats: LayerStats = {
    ...stats,
    attn: {
      absMax: byColumn(stats.attn.absMax, factor),
      sample: { ...stats.attn.sample, data: byColumn(stats.attn.sample.data, factor) },
    },
  };
  // ‖W_k‖² and errors scale by exact powers of two, so the clip ratios agree, too
  const a = await quantizeLayer(layer, stats, tinyConfig, method);
  const b = await quantizeLayer(injected, injectedStats, tinyConfig, method);
  expect(b.attnNorm).toEqual(a.attnNorm);
  expect(b.qkv).toEqual(a.qkv);
});

test('only rtn-dynamic does without statistics', async () => {
  const { layer } = randomLayer();
  const dynamic = await quantizeLayer(layer, null, tinyConfig, { ...method, scheme: 'rtn-dynamic' });
  expect(dynamic.spec).toMatchObject({ attnAct: 1, oAct: 1, mlpAct: 1, downAct: 1, attnInputs: 64 });
  await expect(quantizeLayer(layer, null, tinyConfig, method)).rejects.toThrow(/needs calibration/);
});
