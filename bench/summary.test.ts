import { expect, test } from 'vitest';
import { adapterFigures, summaryOf } from './summary';
import { benchFile, figure, suite } from './testing';

const at = (context: number, name: string) => `decode/llama-2-7b/mergequant-a4/context-${context}/${name}`;
const float = (context: number, name: string) => `decode/llama-2-7b/fp16/context-${context}/${name}`;

test('exactly the keys that the project reports, null where nothing was measured', () => {
  expect(adapterFigures([])).toEqual({
    gemv_pct_ceiling_net: null,
    gemv_pct_ceiling_gross: null,
    decode_512_tok_s_chromium: null,
    decode_512_tok_s_node: null,
    decode_vs_fp16: null,
    prefill_2048_tok_s_core: null,
    prefill_2048_tok_s_matrix: null,
    prefill_vs_fp16: null,
    static_vs_dynamic_step: null,
    device_gib_2048: null,
    dispatches_per_token: null,
    decode_4000_vs_512: null,
  });
});

test('each figure comes from the newest run that has it, quotients from one and the same run', () => {
  const old = benchFile(
    [
      suite('decode', [
        figure(at(512, 'decode'), 200),
        figure(float(512, 'decode'), 100),
        figure('decode/llama-2-7b/mergequant-a4/memory/total-2048', 2 ** 32),
      ]),
      suite('kernels', [figure('kernels/llama-2-7b/all-linears/int4/decode/ceiling-net', 77)]),
    ],
    { date: '2026-01-01T00:00:00.000Z' },
  );
  const recent = benchFile(
    [suite('decode', [figure(at(512, 'decode'), 400), figure(at(4000, 'decode'), 300)])],
    {
      date: '2026-01-02T00:00:00.000Z',
    },
  );
  const browser = benchFile([suite('decode', [figure(at(512, 'decode'), 390)])], {
    date: '2026-01-03T00:00:00.000Z',
    runtime: { kind: 'browser', name: 'x' },
  });
  expect(summaryOf([old, browser, recent])['ACME One']).toMatchObject({
    decode_512_tok_s_node: 400,
    decode_512_tok_s_chromium: 390,
    decode_vs_fp16: 2,
    decode_4000_vs_512: 0.75,
    device_gib_2048: 4,
    gemv_pct_ceiling_net: 77,
    prefill_2048_tok_s_core: null,
  });
});

test('4000 against 512 is read in a browser where one ran that build, or within the hour of the newest run', () => {
  const run = (date: string, kind: 'node' | 'browser', late: number, commit?: string) =>
    benchFile([suite('decode', [figure(at(512, 'decode'), 100), figure(at(4000, 'decode'), late)])], {
      date,
      runtime: { kind, name: 'x' },
      ...(commit ? { build: { version: '1', commit, isDirty: false } } : {}),
    });
  const node = run('2026-01-01T12:00:00.000Z', 'node', 70);
  const browser = run('2026-01-01T11:30:00.000Z', 'browser', 90);
  const old = run('2026-01-01T10:30:00.000Z', 'browser', 80);
  const of = (...files: (typeof node)[]) => summaryOf(files)['ACME One']!.decode_4000_vs_512;
  expect(of(node, browser)).toBe(0.9);
  expect(of(node, old)).toBe(0.7);
  expect(of(old)).toBe(0.8);
  // Where both tell their commits, these decide.
  const built = run('2026-01-01T12:00:00.000Z', 'node', 70, 'a');
  expect(of(built, run('2026-01-01T10:30:00.000Z', 'browser', 85, 'a'))).toBe(0.85);
  expect(of(built, run('2026-01-01T11:30:00.000Z', 'browser', 90, 'b'))).toBe(0.7);
});

test('device memory is that of the options that save it, where they were measured', () => {
  const figureOf = (name: string, gib: number) =>
    figure(`decode/llama-2-7b/${name}/memory/total-2048`, gib * 2 ** 30);
  const plain = suite('decode', [figureOf('mergequant-a4', 5)]);
  const compact = suite('decode', [figureOf('mergequant-a4-kv8-e8-c256', 4)]);
  expect(adapterFigures([benchFile([plain])]).device_gib_2048).toBe(5);
  expect(adapterFigures([benchFile([plain]), benchFile([compact])]).device_gib_2048).toBe(4);
});

test('prefill with and without subgroup matrices are told apart', () => {
  const core = benchFile([suite('decode', [figure(at(2048, 'prefill'), 5000)])]);
  const matrix = benchFile([suite('decode', [figure(at(2048, 'prefill'), 12_000)])], {
    caps: { ...core.caps, subgroupMatrixI8: true },
  });
  expect(adapterFigures([matrix, core])).toMatchObject({
    prefill_2048_tok_s_core: 5000,
    prefill_2048_tok_s_matrix: 12_000,
  });
});

test('prefill against fp16 is the lower of Node and browser, each in its newest run without subgroup matrices', () => {
  const run = (kind: 'node' | 'browser', float: number) =>
    benchFile(
      [
        suite('decode', [
          figure(at(2048, 'prefill'), 6000),
          figure('decode/llama-2-7b/fp16/context-2048/prefill', float),
        ]),
      ],
      { runtime: { kind, name: 'x' } },
    );
  const of = (...files: ReturnType<typeof run>[]) => adapterFigures(files).prefill_vs_fp16;
  expect(of(run('browser', 1500), run('node', 2000), run('node', 1000))).toBe(3);
  expect(of(run('browser', 1500))).toBe(4);
  expect(of()).toBeNull();
});

test('adapters do not mix', () => {
  const other = benchFile([suite('decode', [figure(at(512, 'decode'), 7)])], { adapterName: 'Other' });
  const summary = summaryOf([benchFile([]), other]);
  expect(summary['ACME One']!.decode_512_tok_s_node).toBeNull();
  expect(summary.Other!.decode_512_tok_s_node).toBe(7);
});
