import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readArtifact } from './artifact-reader';
import { suiteNames, suiteRows } from './eval-suites';
import { artifactModel, perplexity } from './fake-forward';
import { prepareDefaults, runPrepare } from './prepare';
import { EvalRun } from './run-eval';
import { writeRandomCheckpoint } from './testing';

let folder: string;
let run: EvalRun;
let checkpoint: string;
let calibration: string[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'eval-'));
  checkpoint = join(folder, 'checkpoint');
  writeRandomCheckpoint(checkpoint, {}, { outliers: { 3: 24, 17: 40 } });
  const write = (name: string, line: (i: number) => string) => {
    writeFileSync(join(folder, name), Array.from({ length: 60 }, (_, i) => line(i)).join('\n'));
    return join(folder, name);
  };
  calibration = [
    write('calibration.txt', (i) => `Day ${i}: the wind came from ${i * 37}° and the ship went on.`),
  ];
  const text = [
    write('test.txt', (i) => `In year ${1800 + i} nobody counted the whales, but ${i * i} were seen.`),
  ];
  run = await EvalRun.create({ checkpoint, text, calibration, samples: 6, window: 64, maxWindows: 3 });
});

afterAll(async () => {
  await run.close();
  rmSync(folder, { recursive: true, force: true });
});

test('every suite has rows, and no label twice', () => {
  for (const suite of suiteNames) {
    const labels = suiteRows(suite).map(({ label }) => label);
    expect(labels.length).toBeGreaterThan(5);
    expect(new Set(labels).size).toBe(labels.length);
  }
});

test('unrounded weights and 8-bit activations lose almost nothing, 4-bit ones more', async () => {
  const options = { scheme: 'mergequant', sequence: 64, weights: 'rtn' } as const;
  const a8 = await run.row({ label: 'A8', options: { ...options, actBits: 8 }, float: 'weights' }, 1);
  const a4 = await run.row({ label: 'A4', options, float: 'weights' }, 1);
  const both = await run.row({ label: 'W4A4', options }, 1);
  expect(a8.kl).toBeLessThan(0.01);
  expect(a8.top1).toBeGreaterThan(0.9);
  expect(a4.kl).toBeGreaterThan(a8.kl);
  expect(both.kl).toBeGreaterThan(a4.kl);
  expect(both.layerErrors).toHaveLength(2);
  expect(both.layerErrors[1]).toBeGreaterThan(a8.layerErrors[1]!);
});

test('GPTQ on the outputs of the quantized stream brings the layers closer to the float ones', async () => {
  const at = (label: string, options: object) =>
    run.row({ label, options: { scheme: 'mergequant', sequence: 64, ...options } }, 1);
  const nearest = await at('rtn', { weights: 'rtn' });
  const gptq = await at('gptq', { weights: 'gptq' });
  expect(gptq.layerErrors[1]!).toBeLessThan(nearest.layerErrors[1]!);
});

test('channels made strong by a power of two change nothing, and reconstruction adds their columns', async () => {
  const inject = { kind: 'gamma', factor: 16, share: 0.02 } as const;
  const invariant = { sequence: 64, reconstruct: 'none', clipLoss: 'channel', weights: 'gptq' } as const;
  const plain = await run.row({ label: 'plain', options: invariant }, 1);
  const strong = await run.row({ label: 'strong', options: invariant, inject }, 1);
  const numbers = ({ ppl, kl, top1, layerErrors }: typeof plain) => ({ ppl, kl, top1, layerErrors });
  expect(numbers(strong)).toEqual(numbers(plain));
  const pad = { ...invariant, reconstruct: 'pad', alpha: 2 } as const;
  const padded = await run.row({ label: 'pad', options: pad }, 1);
  expect(padded.addedColumns).toBeGreaterThan(0);
});

test('3-bit weights: groups lose less than rows, GPTQ less than the nearest level, and 4 bits less than 3', async () => {
  const rows = suiteRows('w3');
  const at = (label: string) => {
    const row = rows.find((candidate) => candidate.label === label)!;
    const { groupSize } = row.options;
    // this model's rows are shorter than 128
    return run.row(
      { ...row, options: { ...row.options, sequence: 64, ...(groupSize && { groupSize: 32 }) } },
      1,
    );
  };
  const perRow = await at('W3 per channel, float activations, rtn');
  const grouped = await at('W3 groups of 128, float activations, rtn');
  const gptq = await at('W3 groups of 128, float activations, gptq');
  const four = await at('W4 groups of 128, A4, gptq');
  const three = await at('W3 groups of 128, A4, gptq');
  const last = ({ layerErrors }: typeof perRow) => layerErrors.at(-1)!;
  expect(last(grouped)).toBeLessThan(last(perRow));
  expect(last(gptq)).toBeLessThan(last(grouped));
  expect(last(four)).toBeLessThan(last(three));
});

test.each([
  { hadamard: false },
  { hadamard: true },
  { scheme: 'mergequant-static' as const },
  { weightBits: 3 as const, groupSize: 32, scheme: 'mergequant' as const },
  { zeroPoints: true, alpha: 2, scheme: 'mergequant' as const },
  { prefix: 1, scheme: 'mergequant-static' as const },
])(
  'the layers in memory are the artifact: $hadamard $scheme $weightBits $zeroPoints $prefix',
  async (variant) => {
    const options = { ...prepareDefaults, ...variant, checkpoint, calibration, samples: 6, sequence: 64 };
    const measured = await run.row({ label: 'memory', options: { ...variant, sequence: 64 } }, 1);
    const out = join(folder, `artifact-${JSON.stringify(variant).replace(/\W/g, '')}`);
    await runPrepare({ ...options, out });
    const written = await perplexity(artifactModel(readArtifact(out)), run.windows);
    // the same integers; embedding and head are float16 in the artifact, which may tip a rounding here and there
    expect(Math.abs(written / measured.ppl - 1)).toBeLessThan(0.02);
  },
);
