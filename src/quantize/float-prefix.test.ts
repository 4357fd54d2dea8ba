import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { calibrateLayer } from './calibrate';
import { Checkpoint } from './checkpoint';
import { PrefixError, PrefixedCheckpoint, sharedPrefix } from './float-prefix';
import { foldScales } from './fold';
import { forwardBlock, ropeTable } from './forward';
import { floatBlock } from './layer';
import { embedSequences } from './layer-calibrator';
import type { Matrix } from './matrix';
import { behindPrefix, prefixRows } from './prefix-rows';
import { RotatedCheckpoint, type WeightSource } from './rotate';
import { tinyConfig, writeRandomCheckpoint } from './testing';

let folder: string;
let checkpoint: Checkpoint;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'prefix-'));
  writeRandomCheckpoint(folder);
  checkpoint = await Checkpoint.open(folder);
});

afterAll(async () => {
  await checkpoint.close();
  rmSync(folder, { recursive: true, force: true });
});

const sequence = Array.from({ length: 12 }, (_, t) => (t === 0 ? 1 : (t * 83) % 512));
const width = 2 * tinyConfig.numKvHeads * tinyConfig.headDim;

async function embedded(source: WeightSource): Promise<Matrix> {
  const [x] = await embedSequences(source, { sequences: [sequence], tokens: 12, files: [] });
  return x!;
}

test.each([false, true])(
  'keys and values are those of a whole sequence’s first rows (Hadamard %s)',
  async (rotate) => {
    const source = rotate ? new RotatedCheckpoint(checkpoint, 1) : checkpoint;
    const hadamard = source instanceof RotatedCheckpoint ? source.rotations.hadamard : null;
    const prefixed = new PrefixedCheckpoint(source, sequence.slice(0, 3), hadamard);
    const x = await embedded(source);
    for (let layer = 0; layer < tinyConfig.numLayers; layer++) {
      const { prefix } = (await prefixed.layer(layer)).qkv;
      const block = await floatBlock(await source.layer(layer), tinyConfig.rmsNormEps, hadamard);
      const own = prefixRows(await block.qkv(block.attnInput(x)), width);
      expect([prefix!.rows, prefix!.cols]).toEqual([3, width]);
      // float32 products of 64 terms in another order: the residual's 1e-6 through two layers
      prefix!.data.forEach((value, i) => {
        expect(Math.abs(value - own.data[i]!)).toBeLessThan(1e-4);
      });
      await forwardBlock(block, x, tinyConfig, ropeTable(tinyConfig, 12));
      block.dispose();
    }
    await expect(prefixed.layer(1)).rejects.toThrow(PrefixError);
    expect((await prefixed.layer(0)).qkv.prefix).toBeDefined();
  },
);

test('values are divided by what is folded into v, keys are not', async () => {
  const layer = await new PrefixedCheckpoint(checkpoint, [1], null).layer(0);
  const { numHeads, headDim, intermediateSize } = tinyConfig;
  const perGroup = numHeads / tinyConfig.numKvHeads;
  const oScales = Float32Array.from(
    { length: numHeads * headDim },
    (_, k) => 2 + (k % headDim) + 100 * Math.floor(k / headDim / perGroup),
  );
  const folded = foldScales(layer, oScales, new Float32Array(intermediateSize).fill(1), tinyConfig);
  const [before, after] = [layer.qkv.prefix!.data, folded.qkv.prefix!.data];
  for (let j = 0; j < width; j++) {
    const value = j - width / 2;
    const divisor = value < 0 ? 1 : 2 + (value % headDim) + 100 * Math.floor(value / headDim);
    expect(after[j]).toBe(Math.fround(before[j]! / divisor));
  }
});

test('statistics leave the prefix out', async () => {
  const block = await floatBlock(await checkpoint.layer(0), tinyConfig.rmsNormEps);
  const rope = ropeTable(tinyConfig, 12);
  const input = block.attnInput(await embedded(checkpoint));
  const chosen = Uint32Array.of(0, 10);
  const x = await embedded(checkpoint);
  const { attn } = await calibrateLayer(block, [x], chosen, tinyConfig, rope, () => null, 1);
  const rest = behindPrefix(input, 1);
  expect(attn.sample.data).toEqual(
    Float32Array.of(...rest.data.subarray(0, rest.cols), ...rest.data.subarray(10 * rest.cols)),
  );
  const absMax = Float32Array.from({ length: rest.cols }, (_, k) =>
    rest.data.reduce((most, value, i) => (i % rest.cols === k ? Math.max(most, Math.abs(value)) : most), 0),
  );
  expect(attn.absMax).toEqual(absMax);
  block.dispose();
});

test('the prefix is what every sequence begins with and goes on behind', () => {
  expect(
    sharedPrefix(
      [
        [1, 5, 6],
        [1, 5, 7, 8],
      ],
      2,
    ),
  ).toEqual([1, 5]);
  expect(() =>
    sharedPrefix(
      [
        [1, 5, 6],
        [1, 6, 7],
      ],
      2,
    ),
  ).toThrow(/go on behind tokens 1 5, found 1 6 7/);
  expect(() =>
    sharedPrefix(
      [
        [1, 5, 6],
        [1, 5],
      ],
      2,
    ),
  ).toThrow(/behind tokens 1 5, found 1 5$/);
});
