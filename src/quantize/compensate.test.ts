import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { numpy as np, tree, valueAndGrad } from '@jax-js/jax';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LlamaConfig } from '../format/config';
import { seededRandom } from '../format/random';
import { asymmetricNearest, packOnGrid } from './asymmetric';
import { calibrateLayer } from './calibrate';
import { Checkpoint } from './checkpoint';
import {
  type BlockProblem,
  blockShape,
  compensateLayer,
  compensationDefaults,
  type TrainingTry,
} from './compensate';
import { layerArrays } from './compensation-arrays';
import { compensationKey, loadCompensated, saveCompensated } from './compensation-store';
import { forwardBlock, ropeTable } from './forward';
import { floatBlock } from './layer';
import { type Matrix, matrix } from './matrix';
import { type Method, type QuantizedLayer, quantizeLayer } from './quantize-layer';
import { quantizedBlock } from './quantized-block';
import { onlineHadamard, RotatedCheckpoint } from './rotate';
import { roundToNearest } from './rtn';
import { writeRandomCheckpoint } from './testing';
import { blockLoss, blockOutput } from './trainable-block';
import { makeBatches } from './training-batches';

const folder = mkdtempSync(join(tmpdir(), 'compensate-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const method: Method = {
  scheme: 'mergequant',
  actBits: 4,
  reconstruct: 'pad',
  alpha: 2,
  clipLoss: 'paper',
  hadamard: null,
  quantizeWeights: roundToNearest,
};

const copies = (sequences: readonly Matrix[]) => sequences.map((x) => matrix(x.rows, x.cols, x.data.slice()));

/** One random layer, quantized, with the float layer's answers to random streams. */
async function problem(name: string, changes: Partial<Method>, prefixTokens = 0): Promise<BlockProblem> {
  const dir = join(folder, name);
  const config = writeRandomCheckpoint(dir, { attentionBias: true }, { dtype: 'F32', outliers: { 3: 6 } });
  const checkpoint = await Checkpoint.open(dir);
  const all = { ...method, ...changes };
  const source = all.hadamard ? new RotatedCheckpoint(checkpoint, 1) : checkpoint;
  const float = await source.layer(0);
  await checkpoint.close();
  const random = seededRandom(4);
  const uniform = (rows: number, cols: number) =>
    matrix(
      rows,
      cols,
      Float32Array.from({ length: rows * cols }, () => random() * 2 - 1),
    );
  const inputs = [20, 13, 7].map((tokens) => uniform(tokens, 64));
  // unlike what the layer makes of these tokens, so that leaving it out would show
  const prefix = uniform(prefixTokens, 2 * config.numKvHeads * config.headDim);
  const weights = prefixTokens > 0 ? { ...float, qkv: { ...float.qkv, prefix } } : float;
  const targets = copies(inputs);
  const block = await floatBlock(weights, config.rmsNormEps, all.hadamard);
  const chosen = Uint32Array.from({ length: 40 }, (_, i) => i);
  const stats = await calibrateLayer(block, targets, chosen, config, ropeTable(config, 20));
  block.dispose();
  return { config, method: all, layer: await quantizeLayer(weights, stats, config, all), inputs, targets };
}

/** Weights on 3-bit levels. */
function threeBits(groupSize: number | null): Partial<Method> {
  const weightGrid = { bits: 3, groupSize } as const;
  return { weightGrid, quantizeWeights: asymmetricNearest(weightGrid) };
}

let plain: BlockProblem;
let grouped: BlockProblem;
beforeAll(async () => {
  plain = await problem('plain', {});
  grouped = await problem('grouped', threeBits(64));
});

describe('the trainable block', () => {
  test.each<{ label: string; changes: Partial<Method>; prefixTokens?: number }>([
    { label: 'mergequant', changes: {} },
    { label: 'segment', changes: { reconstruct: 'segment' } },
    { label: 'rtn-dynamic', changes: { scheme: 'rtn-dynamic', reconstruct: 'none' } },
    { label: 'static', changes: { scheme: 'mergequant-static', actBits: 8 } },
    { label: 'hadamard', changes: { reconstruct: 'none', hadamard: { downBlock: 4 } } },
    { label: '3 bits', changes: threeBits(null) },
    { label: '3 bits in groups', changes: threeBits(64) },
    { label: 'float prefix', changes: {}, prefixTokens: 2 },
    { label: 'static, float prefix', changes: { scheme: 'mergequant-static', actBits: 8 }, prefixTokens: 2 },
  ])('computes what the quantized block does: $label', async ({ label, changes, prefixTokens = 0 }) => {
    const { config, layer, inputs, targets, method: own } = await problem(label, changes, prefixTokens);
    expect(layer.qkv.prefix?.rows ?? 0).toBe(prefixTokens);
    const batch = makeBatches(inputs, targets, config, 1, prefixTokens)[0]!; // the longest sequence alone fills its row
    const { constants } = layerArrays(layer, config, own);
    const output = (await blockOutput(blockShape(config, own), {}, constants, batch).data()) as Float32Array;
    const block = await quantizedBlock(layer, config, own);
    const x = copies(inputs)[0]!;
    await forwardBlock(block, x, config, ropeTable(config, 20));
    block.dispose();
    // float32 in another order may tip a rounding: a few tokens then differ by part of a step, the others by nothing
    const wrong = x.data.filter((value, i) => !(Math.abs(value - output[i]!) < 1e-4)).length;
    expect(wrong / x.data.length).toBeLessThan(0.1);
    tree.dispose(constants);
    tree.dispose(batch);
  });

  test('has no loss at a float prefix, whose rows reach the others', async () => {
    const prefixed = await problem('prefix-loss', {}, 2);
    const { config, layer, inputs, targets, method: own } = prefixed;
    const { prefix: _, ...withoutPrefix } = layer.qkv;
    const unprefixed = { ...layer, qkv: withoutPrefix };
    const lossOf = async (of: QuantizedLayer, expected: readonly Matrix[]) => {
      const [batch] = makeBatches(inputs, expected, config, 3, 2); // two rows, sequences packed
      const { constants } = layerArrays(of, config, own);
      return ((await blockLoss(blockShape(config, own), {}, constants, batch!).data()) as Float32Array)[0]!;
    };
    const moved = (at: number) =>
      targets.map(({ rows, cols, data }) =>
        matrix(
          rows,
          cols,
          data.map((value, i) => (Math.floor(i / cols) === at ? value + 1 : value)),
        ),
      );
    const loss = await lossOf(layer, targets);
    expect(await lossOf(layer, moved(1))).toBe(loss);
    expect(await lossOf(layer, moved(2))).not.toBe(loss);
    expect(await lossOf(unprefixed, targets)).not.toBe(loss);
    expect(compensationKey({ ...prefixed, layer: unprefixed }, compensationDefaults)).not.toBe(
      compensationKey(prefixed, compensationDefaults),
    );
  });

  test.each(['plain', 'grouped'])(
    'gradients are those of finite differences where nothing is rounded: %s',
    async (which) => {
      const { config, layer, inputs, targets, method: own } = which === 'plain' ? plain : grouped;
      const batch = makeBatches(inputs, targets, config, 1)[0]!;
      // no clamp in front of o and down: a token's scale counts as a constant, which then makes no difference
      const unclipped = { ...layer, spec: { ...layer.spec, oAct: 1, downAct: 1 } };
      const { constants } = layerArrays(unclipped, config, own);
      const shape = { ...blockShape(config, own), rounds: false };
      const random = seededRandom(9);
      const small = (rows: number, cols: number) =>
        Float32Array.from({ length: rows * cols }, () => 0.2 * (random() - 0.5));
      const values: Record<string, { data: Float32Array<ArrayBuffer>; shape: number[] }> = {};
      for (const name of ['qkv', 'o', 'gateUp', 'down'] as const) {
        const { rows, cols, scales } = layer[name].weight;
        const groups = scales.length / rows;
        values[`${name}.a`] = { data: small(rows, 2), shape: [rows, 2] };
        values[`${name}.b`] = { data: small(2, cols), shape: [2, cols] };
        // narrow enough that many weights are clamped: the others do not feel the scale where nothing is rounded
        values[`${name}.growth`] = {
          data: small(rows, groups).map((value) => value - 0.5),
          shape: [rows, groups],
        };
      }
      const arrays = () =>
        Object.fromEntries(
          Object.entries(values).map(([key, v]) => [key, np.array(v.data).reshape(v.shape)]),
        );
      const loss = (parameters: ReturnType<typeof arrays>) => blockLoss(shape, parameters, constants, batch);
      const [, gradients] = valueAndGrad(loss)(arrays());
      for (const key of Object.keys(values)) {
        const gradient = (await (gradients as ReturnType<typeof arrays>)[key]!.data()) as Float32Array;
        // along the gradient itself the loss must change by its squared length: one number checks every element's sign and size
        const length = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
        const { data } = values[key]!;
        const at = async (t: number) => {
          const before = data.slice();
          data.set(data.map((value, i) => value + (t * gradient[i]!) / length));
          const value = ((await loss(arrays()).data()) as Float32Array)[0]!;
          data.set(before);
          return value;
        };
        // The loss changes by 4e-5, a thousand times its error in float32; a steep gradient takes a short step, on which few
        // weights cross a clamp.
        const h = Math.min(0.02, 2e-5 / length);
        const slope = ((await at(h)) - (await at(-h))) / (2 * h);
        expect(Math.abs(slope / length - 1), `${key}: ${slope} for ${length}`).toBeLessThan(0.005); // h² terms and float32 losses
      }
    },
  );
});

/** Mean squared distance of a quantized layer's output from the float layer's. */
async function meanError(layer: QuantizedLayer, { config, method: own, inputs, targets }: BlockProblem) {
  const block = await quantizedBlock(layer, config, own);
  let error = 0;
  let count = 0;
  for (const [i, x] of copies(inputs).entries()) {
    await forwardBlock(block, x, config, ropeTable(config, 20));
    x.data.forEach((value, k) => {
      error += (value - targets[i]!.data[k]!) ** 2;
    });
    count += x.data.length;
  }
  block.dispose();
  return error / count;
}

describe('training', () => {
  test.each([
    { label: 'whole matrices and scales', rank: 'full' as const, learnScales: true },
    { label: 'rank 4', rank: 4, learnScales: false },
  ])('lowers the loss, and the folded layer has it: $label', async ({ rank, learnScales }) => {
    const options = { ...compensationDefaults, rank, learnScales, epochs: 8, rate: 0.03 };
    const losses: number[] = [];
    const result = await compensateLayer(plain, options, {
      onEpoch: (_, __, loss) => losses.push(loss),
    });
    expect(losses).toHaveLength(8);
    expect(result.after).toBeLessThan(0.9 * result.before);
    expect((await meanError(result.layer, plain)) / result.before).toBeLessThan(0.95);
    expect(result.layer.qkv.weight.codes.every((code) => code >= -8 && code <= 7)).toBe(true);
  });

  test('on 3-bit levels in groups, and the folded codes are levels', async () => {
    const { layer } = grouped;
    const options = { ...compensationDefaults, epochs: 6 };
    const result = await compensateLayer(grouped, options);
    expect(result.after).toBeLessThan(0.9 * result.before);
    expect((await meanError(result.layer, grouped)) / result.before).toBeLessThan(0.95);
    const { qkv } = result.layer;
    expect(qkv.weight.codes).not.toEqual(layer.qkv.weight.codes);
    expect(() => packOnGrid(qkv.weight, qkv.weight.grid!)).not.toThrow();
    const { zeros } = qkv.weight.grid!;
    const groups = qkv.weight.scales.length / qkv.weight.rows;
    qkv.weight.codes.forEach((code, i) => {
      const k = i % qkv.weight.cols;
      const zero = zeros[Math.floor(i / qkv.weight.cols) * groups + Math.floor(k / 64)]!;
      expect((code + zero) % 16).toBe(0);
    });
  });

  test('a rate too large is tried again at a quarter; where none serves, the layer stays as it was', async () => {
    const run = async (rate: number, retries: number) => {
      const tries: TrainingTry[] = [];
      const options = { ...compensationDefaults, epochs: 2, rate, retries };
      const listener = { onTry: (training: TrainingTry) => tries.push(training) };
      return { tries, ...(await compensateLayer(plain, options, listener)) };
    };
    const mended = await run(0.16, 3);
    expect(mended.tries.length).toBeGreaterThan(1);
    mended.tries.forEach(({ rate, loss, next }, i) => {
      const isLast = i === mended.tries.length - 1;
      expect(rate).toBe(0.16 / 4 ** i);
      expect(loss < 1).toBe(isLast);
      expect(next).toBe(isLast ? null : rate / 4);
    });
    const { rate } = mended.tries.at(-1)!;
    expect(mended.layer.trainedRate).toBe(rate);
    // the try that served is what a run at its rate is
    const direct = await run(rate, 0);
    expect(direct.layer).toEqual(mended.layer);
    expect(mended.after).toBe(direct.after);
    const inVain = await run(0.16, 0);
    expect(inVain.tries).toEqual([mended.tries[0]!].map((first) => ({ ...first, next: null })));
    expect(inVain.layer).toEqual({ ...plain.layer, trainedRate: null });
    expect(inVain.after).toBe(inVain.before);
  });
});

test('a layer on 3-bit levels comes back from disk, under a name that its zero points are part of', () => {
  const { layer } = grouped;
  const keyOf = (of: QuantizedLayer) => compensationKey({ ...grouped, layer: of }, compensationDefaults);
  saveCompensated(folder, 0, keyOf(layer), layer);
  const found = loadCompensated(folder, 0, keyOf(layer), layer)!;
  for (const name of ['qkv', 'o', 'gateUp', 'down'] as const)
    expect(found[name].weight).toEqual(layer[name].weight);
  const { grid, ...weight } = layer.o.weight;
  const zeros = grid!.zeros.map((zero, i) => (i === 5 ? zero ^ 1 : zero));
  const moved = { ...layer, o: { ...layer.o, weight: { ...weight, grid: { ...grid!, zeros } } } };
  expect(keyOf(moved)).not.toBe(keyOf(layer));
});

test('a Hadamard layer trains, too', async () => {
  const rotated = await problem('hadamard-training', {
    reconstruct: 'none',
    hadamard: onlineHadamard({ intermediateSize: 172 } as LlamaConfig),
  });
  const options = { ...compensationDefaults, epochs: 6 };
  const { before, after } = await compensateLayer(rotated, options);
  expect(after).toBeLessThan(before);
});
