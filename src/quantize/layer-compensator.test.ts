import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readArtifact } from './artifact-reader';
import { compensationDefaults } from './compensate';
import { type PrepareOptions, prepareDefaults, runPrepare } from './prepare';
import { writeRandomCheckpoint } from './testing';

const folder = mkdtempSync(join(tmpdir(), 'compensator-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let options: PrepareOptions;
beforeAll(() => {
  const checkpoint = join(folder, 'checkpoint');
  writeRandomCheckpoint(checkpoint);
  const text = join(folder, 'text.txt');
  writeFileSync(text, 'The ship sailed on 7 seas, and nobody knew why it returned so late. '.repeat(40));
  const sizes = { samples: 3, sequence: 24 };
  options = {
    ...prepareDefaults,
    ...sizes,
    calibration: [text],
    checkpoint,
    out: '',
    hadamard: true,
    prefix: 1,
  };
});

/** Prepares with compensation. @returns which layers trained, an entry an epoch, and the artifact's shards and provenance */
async function prepared(name: string, store: string) {
  const trained: number[] = [];
  const out = join(folder, name);
  const onEpoch = (layer: number) => trained.push(layer);
  const compensation = {
    // few steps: what a second rate gives is kept, too
    settings: { ...compensationDefaults, epochs: 2 },
    folder: join(folder, store),
    onEpoch,
  };
  await runPrepare({ ...options, out, compensation });
  const { shards, provenance } = readArtifact(out).manifest;
  return { trained, shards, provenance };
}

test('an interrupted run goes on behind its last finished layer, and the result is the same', async () => {
  const whole = await prepared('whole', 'store');
  expect(whole.trained).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
  const { layerRates } = whole.provenance.compensation as { layerRates: (number | null)[] };
  expect(layerRates).toHaveLength(2);
  const files = readdirSync(join(folder, 'store')).sort();
  expect(files).toHaveLength(2);
  expect(await prepared('again', 'store')).toEqual({ ...whole, trained: [] });
  rmSync(join(folder, 'store', files.find((file) => file.startsWith('layer-1'))!));
  expect(await prepared('resumed', 'store')).toEqual({ ...whole, trained: [1, 1, 1, 1] });
});

test('a damaged file is refused by name', async () => {
  await prepared('first', 'damaged');
  const [file] = readdirSync(join(folder, 'damaged')).filter((name) => name.startsWith('layer-0'));
  truncateSync(join(folder, 'damaged', file!), 100);
  await expect(prepared('second', 'damaged')).rejects.toThrow(/layer-0-/);
});

test('without calibration text, and for a range of layers, it is refused', async () => {
  const compensation = { settings: compensationDefaults };
  const out = join(folder, 'refused');
  const plain = { ...options, out, compensation };
  await expect(runPrepare({ ...plain, calibration: [] })).rejects.toThrow(/give --calibration/);
  await expect(runPrepare({ ...plain, layers: [1, 2] })).rejects.toThrow(/expected parts of layers 0:1/);
});
