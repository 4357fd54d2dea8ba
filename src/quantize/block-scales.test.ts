import { expect, test } from 'vitest';
import { blockScales } from './block-scales';
import type { LayerStats } from './calibrate';
import { clipTensor } from './clip';
import { forwardBlock, ropeTable } from './forward';
import { floatBlock, type LayerWeights } from './layer';
import { matrix } from './matrix';
import { type Method, quantizeLayer } from './quantize-layer';
import { quantizedBlock } from './quantized-block';
import { keepFloat } from './rtn';
import { channelAbsMax, tensorScales } from './scales';
import { tinyConfig } from './testing';
import { randomMatrix } from './testing-matrices';

const { hiddenSize: D, intermediateSize: F, numHeads, numKvHeads, headDim } = tinyConfig;
const blockSize = 4;

const method: Method = {
  scheme: 'mergequant-static',
  actBits: 4,
  reconstruct: 'none',
  alpha: 5,
  clipLoss: 'output',
  hadamard: { downBlock: blockSize },
  downSteps: 'block',
  quantizeWeights: keepFloat,
  floatActivations: true,
};

/** Rows whose blocks differ in size. */
function unequalRows(rows: number, seed: number) {
  const { data } = randomMatrix(rows, F, seed);
  return matrix(
    rows,
    F,
    data.map((value, i) => value * (1 + Math.floor((i % F) / blockSize))),
  );
}

test('a block has one step, that of its own columns', async () => {
  const sample = unequalRows(40, 1);
  const absMax = channelAbsMax(sample);
  const weights = randomMatrix(16, F, 2);
  const scales = await blockScales({ sample, absMax }, weights, blockSize, method);
  for (const from of [0, 8, F - blockSize]) {
    const cut = ({ rows, data }: typeof sample) =>
      matrix(
        rows,
        blockSize,
        data.filter((_, i) => i % F >= from && i % F < from + blockSize),
      );
    const own = {
      rows: cut(sample),
      absMax: absMax.slice(from, from + blockSize),
      weights: cut(weights),
      actBits: 4 as const,
    };
    const ratio = await clipTensor(own);
    expect(scales.slice(from, from + blockSize)).toEqual(tensorScales(own.absMax, 4, ratio));
  }
  const unclipped = await blockScales({ sample, absMax }, weights, blockSize, {
    ...method,
    clipLoss: 'none',
  });
  expect(unclipped.slice(8, 12)).toEqual(tensorScales(absMax.slice(8, 12), 4));
});

test.each(['block', 'tensor'] as const)(
  'steps by %s leave the float block what it computes',
  async (downSteps) => {
    const linear = (rows: number, cols: number, seed: number) => {
      const { data } = randomMatrix(rows, cols, seed);
      const bias = randomMatrix(1, rows, seed + 50).data;
      return {
        weight: matrix(
          rows,
          cols,
          data.map((value) => value / Math.sqrt(cols)),
        ),
        bias,
      };
    };
    const layer: LayerWeights = {
      attnNorm: new Float32Array(D).fill(1),
      qkv: linear((numHeads + 2 * numKvHeads) * headDim, D, 1),
      o: linear(D, numHeads * headDim, 2),
      mlpNorm: new Float32Array(D).fill(1),
      gateUp: linear(2 * F, D, 3),
      down: linear(D, F, 4),
    };
    const site = (sample: ReturnType<typeof matrix>) => ({ sample, absMax: channelAbsMax(sample) });
    const stats: LayerStats = {
      attn: site(randomMatrix(40, D, 5)),
      o: site(randomMatrix(40, numHeads * headDim, 6)),
      mlp: site(randomMatrix(40, D, 7)),
      down: site(unequalRows(40, 8)),
    };
    const own = { ...method, downSteps };
    const quantized = await quantizeLayer(layer, stats, tinyConfig, own);
    if (downSteps === 'block') expect(quantized.spec.downAct).toBe(1);
    else expect(quantized.spec.downAct).not.toBe(1);
    const blocks = [
      await floatBlock(layer, tinyConfig.rmsNormEps, method.hadamard),
      await quantizedBlock(quantized, tinyConfig, own),
    ];
    const [float, merged] = await Promise.all(
      blocks.map(async (block) => {
        const x = randomMatrix(6, D, 9);
        await forwardBlock(block, x, tinyConfig, ropeTable(tinyConfig, 6));
        block.dispose();
        return x.data;
      }),
    );
    // float32 products of up to 172 terms, values up to about 10
    merged!.forEach((value, i) => {
      expect(Math.abs(value - float![i]!)).toBeLessThan(1e-3);
    });
  },
);
