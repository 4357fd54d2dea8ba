import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { evalDocument } from './eval-report';
import {
  type EvalHeader,
  type EvalSettings,
  openStore,
  StoredResultsError,
  storedSuites,
} from './eval-store';

const folder = mkdtempSync(join(tmpdir(), 'eval-store-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const settings: EvalSettings = {
  suite: 'schemes',
  checkpoint: 'model',
  text: ['a.txt'],
  calibration: ['b.txt'],
  window: 64,
  maxWindows: null,
  samples: 8,
  device: 'host',
};
const site = { attn: 2, o: 3, mlp: 4, down: 5 };
const header: EvalHeader = {
  settings,
  command: 'mergequant eval …',
  machine: '2 × CPU',
  float: { ppl: 20, windows: 3, tokens: 189, outlierRatios: [site] },
};
const result = (label: string, seed: number, ppl: number) => ({
  label,
  seed,
  ppl,
  ratio: ppl / 20,
  kl: 0.1,
  top1: 0.5,
  layerErrors: [0.1, 0.2],
  outlierRatios: [site],
  addedColumns: 0,
  quantizeSeconds: 1,
});

test('results are there again, and a report shows every suite of the folder with means and spreads', () => {
  const store = openStore(folder, settings);
  store.start(header);
  store.add(result('row', 1, 21));
  store.add(result('row', 2, 23));
  const again = openStore(folder, settings);
  expect(again.has('row', 2)).toBe(true);
  expect(again.has('row', 3)).toBe(false);
  expect(again.header).toEqual(header);
  const gpu = openStore(folder, { ...settings, device: 'gpu' });
  gpu.start({ ...header, settings: { ...settings, device: 'gpu' } });
  gpu.add(result('row', 1, 21.5));
  const tables = storedSuites(folder, ['ladder', 'schemes']);
  expect(tables.map((table) => table.header.settings.device)).toEqual(['host', 'gpu']);
  const text = evalDocument(tables);
  expect(text).toContain('| row | 22.00 ± 1.00 | 1.100 ± 0.050 |');
  expect(text).toContain('| 2.0 / 3.0 / 4.0 / 5.0 |');
  expect(text).toContain('| row | 0.1000 | 0.2000 |');
  expect(text).toContain('seeds 1, 2, ± half their range');
  expect(text).toContain('| row | 21.50 | 1.075 |');
});

test('results of other settings and damaged lines are refused by name, a last line without its end is dropped', () => {
  expect(() => openStore(folder, { ...settings, samples: 9 })).toThrow(StoredResultsError);
  const file = join(folder, 'schemes.jsonl');
  const whole = readFileSync(file, 'utf8');
  writeFileSync(file, whole.slice(0, -20));
  const store = openStore(folder, settings);
  expect([store.has('row', 1), store.has('row', 2)]).toEqual([true, false]);
  store.add(result('row', 2, 23));
  expect(readFileSync(file, 'utf8')).toBe(whole);
  writeFileSync(file, whole.replace('{"result"', '{"res'));
  expect(() => openStore(folder, settings)).toThrow(/schemes\.jsonl: line 2/);
});
