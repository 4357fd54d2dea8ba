import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Checkpoint } from './checkpoint';
import { ConcentratedCheckpoint, energyAxes } from './concentrate';
import { floatReference } from './float-reference';
import { rmsNorm } from './forward';
import { type Matrix, matrix } from './matrix';
import { principalAxes } from './products';
import { writeRandomCheckpoint } from './testing';

const folder = mkdtempSync(join(tmpdir(), 'concentrate-'));
const windows = [
  [1, 40, 7, 311, 5, 90, 12, 3],
  [1, 8, 8, 200, 13, 402],
];
let checkpoint: Checkpoint;
beforeAll(async () => {
  writeRandomCheckpoint(folder, { attentionBias: true, mlpBias: true }, { dtype: 'F32', outliers: { 3: 6 } });
  checkpoint = await Checkpoint.open(folder);
});
afterAll(async () => {
  await checkpoint.close();
  rmSync(folder, { recursive: true, force: true });
});

test('principal axes are orthonormal eigenvectors, the strongest first', async () => {
  const axes = await principalAxes(matrix(3, 3, Float32Array.of(2, 1, 0, 1, 2, 0, 0, 0, 9)));
  const expected = [
    [0, 0, 1],
    [Math.SQRT1_2, Math.SQRT1_2, 0],
    [Math.SQRT1_2, -Math.SQRT1_2, 0],
  ];
  expected.forEach((axis, k) => {
    const row = [...axes.data.subarray(3 * k, 3 * k + 3)];
    const along = axis.reduce((sum, value, i) => sum + value * row[i]!, 0);
    // float32 eigenvectors of a matrix with eigenvalues 9, 3, 1: within a few ulp of the exact ones, up to their sign
    expect(Math.abs(along)).toBeCloseTo(1, 5);
  });
});

function channelEnergy(hidden: readonly Matrix[]): number[] {
  const D = hidden[0]!.cols;
  const energy = new Array<number>(D).fill(0);
  for (const x of hidden) {
    rmsNorm(x, new Float32Array(D).fill(1), 1e-5).data.forEach((value, i) => {
      energy[i % D]! += value * value;
    });
  }
  return energy;
}

test('the rotated checkpoint is the same model, and few channels hold its energy', async () => {
  const source = new ConcentratedCheckpoint(checkpoint, await energyAxes(checkpoint, windows));
  const plain = await floatReference(checkpoint, windows);
  const rotated = await floatReference(source, windows);
  // two float32 rotations of width 64 a linear, two layers: relative differences stay near 64·2⁻²⁴·10
  expect(Math.abs(rotated.ppl / plain.ppl - 1)).toBeLessThan(1e-4);
  const strongest = (hidden: readonly Matrix[]) => {
    const energy = channelEnergy(hidden).sort((a, b) => b - a);
    return energy.slice(0, 6).reduce((a, b) => a + b, 0) / energy.reduce((a, b) => a + b, 0);
  };
  expect(strongest(rotated.hidden)).toBeGreaterThan(1.5 * strongest(plain.hidden));
});
