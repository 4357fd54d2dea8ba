import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type PrepareOptions, prepareDefaults, runMerge, runPrepare } from './prepare';
import { writeRandomCheckpoint } from './testing';

let folder: string;
let options: Omit<PrepareOptions, 'out'>;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'parts-'));
  const text = join(folder, 'text.txt');
  writeFileSync(
    text,
    Array.from({ length: 80 }, (_, i) => `Line ${i} of the log: ${i * i} miles sailed.`).join('\n'),
  );
  const checkpoint = join(folder, 'checkpoint');
  writeRandomCheckpoint(checkpoint, { numLayers: 3 }, { outliers: { 3: 24 } });
  options = {
    ...prepareDefaults,
    checkpoint,
    calibration: [text],
    samples: 4,
    sequence: 48,
    propagate: 'float',
  };
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const contents = (path: string) =>
  Object.fromEntries(
    readdirSync(path).map((name) => [name, readFileSync(join(path, name)).toString('base64')]),
  );

test.each([false, true])(
  'parts merged equal one whole run, byte for byte (Hadamard %s)',
  async (hadamard) => {
    const at = (name: string) => join(folder, `${name}-${hadamard}`);
    // with bytes in one of the two
    const own: typeof options = { ...options, hadamard, ...(hadamard && { embeddingBits: 8, headBits: 8 }) };
    await runPrepare({ ...own, out: at('whole') });
    await runPrepare({ ...own, out: at('b'), layers: [2, 3] });
    await runPrepare({ ...own, out: at('a'), layers: [0, 2], spill: folder });
    const parts = [at('b'), at('a')];
    await runMerge({ checkpoint: own.checkpoint, parts, out: at('merged') });
    expect(contents(at('merged'))).toEqual(contents(at('whole')));
    expect(readdirSync(folder).filter((name) => name.startsWith('activations-'))).toEqual([]);
  },
);

test('parts that do not fit are named', async () => {
  const at = (name: string) => join(folder, name);
  await runPrepare({ ...options, out: at('first'), layers: [0, 1] });
  await runPrepare({ ...options, out: at('other'), layers: [1, 3], seed: 9 });
  const merge = (...parts: string[]) =>
    runMerge({ checkpoint: options.checkpoint, parts: parts.map(at), out: at('never') });
  await expect(merge('first')).rejects.toThrow(/layers 0:3, found 0:1/);
  await expect(merge('first', 'other')).rejects.toThrow(/expected the options of/);
  await expect(merge('other')).rejects.toThrow(/layers from 0, found 1:3/);
  await expect(merge('checkpoint')).rejects.toThrow(/expected part.json/);
  const range = runPrepare({ ...options, out: at('never'), layers: [2, 4] });
  await expect(range).rejects.toThrow(/within 0:3, found 2:4/);
});
