import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { claimFolder, workFolder } from './abandoned';
import { runMerge } from './assemble';
import { compensationDefaults } from './compensate';
import { type PrepareOptions, prepareDefaults, runPrepare } from './prepare';
import { Stopwatch } from './stopwatch';
import { writeRandomCheckpoint } from './testing';

/** A process that has ended. */
const { pid: endedPid } = spawnSync(process.execPath, ['-e', '']);

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
    await runPrepare({ ...own, out: at('a'), layers: [0, 2], spill: at('spill') });
    const parts = [at('b'), at('a')];
    const killed = workFolder(at('merged'), 'partial', 'killed');
    mkdirSync(killed);
    claimFolder(killed);
    const owner = join(killed, 'owner.json');
    const ended = { ...JSON.parse(readFileSync(owner, 'utf8')), pid: endedPid };
    writeFileSync(owner, JSON.stringify(ended));
    const notices: string[] = [];
    const onNotice = (text: string) => notices.push(text);
    await runMerge({ checkpoint: own.checkpoint, parts, out: at('merged'), onNotice });
    expect(contents(at('merged'))).toEqual(contents(at('whole')));
    expect(notices).toEqual([`removed ${killed}: the half-written artifact of a run that was killed`]);
    expect(readdirSync(folder).filter((name) => /partial-/.test(name))).toEqual([]);
    expect(readdirSync(at('spill'))).toEqual([]);
  },
);

test('parts on the quantized stream go on behind those before them, and merge to the whole run', async () => {
  const at = (name: string) => join(folder, `stream-${name}`);
  const settings = { ...compensationDefaults, epochs: 1, rate: 0.001, retries: 0 };
  const own: typeof options = {
    ...options,
    ...{ weightBits: 3, groupSize: 32, prefix: 1, samples: 2, sequence: 24 },
    propagate: 'quantized',
    compensation: { settings },
  };
  await runPrepare({ ...own, out: at('whole') });
  await runPrepare({ ...own, out: at('a'), layers: [0, 1] });
  await runPrepare({ ...own, out: at('b'), layers: [1, 2], after: [at('a')] });
  await runPrepare({ ...own, out: at('c'), layers: [2, 3], after: [at('b'), at('a')] });
  const parts = ['a', 'b', 'c'].map(at);
  await runMerge({ checkpoint: own.checkpoint, parts, out: at('merged') });
  expect(contents(at('merged'))).toEqual(contents(at('whole')));
  const range = (extra: Partial<PrepareOptions>) =>
    runPrepare({ ...own, out: at('never'), layers: [2, 3], ...extra });
  await expect(range({})).rejects.toThrow(/layers 2:3: expected parts of layers 0:2/);
  await expect(range({ after: [at('a')] })).rejects.toThrow(/expected layers 0:2, found 0:1/);
  await expect(range({ after: [at('a'), at('b')], seed: 5 })).rejects.toThrow(/stream-a: seed: expected/);
});

test('a run that dies in layer 2 goes on behind layer 1, to the same bytes', async () => {
  const at = (name: string) => join(folder, `killed-${name}`);
  const extras = { zeroPoints: true, prefix: 1 };
  const own: typeof options = { ...options, ...extras, propagate: 'quantized' };
  await runPrepare({ ...own, out: at('whole') });
  const out = at('again');
  const dies = runPrepare({ ...own, out }, (done) => {
    if (done === 2) throw new Error('the power is gone');
  });
  await expect(dies).rejects.toThrow('the power is gone');
  const layers = readdirSync(folder).filter((name) => name.startsWith('.killed-again.layers-'));
  expect(layers.flatMap((name) => readdirSync(join(folder, name))).sort()).toEqual(['0', '1', 'owner.json']);
  const calls: string[] = [];
  class Listener extends Stopwatch {
    override time<T>(stage: string, work: () => Promise<T>): Promise<T> {
      calls.push(stage);
      return super.time(stage, work);
    }
  }
  await runPrepare({ ...own, out, stopwatch: new Listener() });
  expect(calls.filter((name) => name === 'quantize')).toHaveLength(1);
  expect(calls.filter((name) => name === 'replay')).toHaveLength(2);
  expect(contents(out)).toEqual(contents(at('whole')));
  expect(readdirSync(folder).filter((name) => name.startsWith('.killed-again'))).toEqual([]);
});

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
