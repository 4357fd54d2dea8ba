import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { BenchFileError, parseBenchFile } from './bench-file';
import { parseOtherEngines } from './other-engines';
import { buildReport, writeReport } from './report.node';
import { benchFileName, readBenchFolder, writeBenchFile } from './results-folder.node';
import { exactly } from './statistics';
import { benchFile, figure, suite } from './testing';
import { difference } from './view';
import { viewsOf } from './views';

const time = { unit: 'us', better: 'lower', clock: 'gpu' } as const;
const steps = suite('quant-step', [
  figure('quant-step/h4096/t1/b1/naive', 30, time),
  figure('quant-step/h4096/t1/b1/fused', 10.05, time),
  figure('quant-step/h4096/t1/b1/static', 10, time),
]);
const token = suite(
  'decode',
  [figure('decode/tiny/mergequant-a4/context-16/decode', 300)],
  [
    {
      id: 'decode/tiny/mergequant-a4',
      ops: [
        { label: 'embed', us: 1 },
        { label: 'matvec', us: 3 },
      ],
    },
  ],
);
const file = benchFile([suite('ceiling', [figure('ceiling/read', 4805, { unit: 'GB/s' })]), steps, token]);

describe('views', () => {
  test('the quantization step names what is within noise', () => {
    const [view] = viewsOf(benchFile([steps]));
    expect(view!.rows).toEqual([
      [
        'D 4096, tokens 1, batch 1',
        '30 (29.4 – 30.6)',
        '10.05 (9.849 – 10.25)',
        '10 (9.8 – 10.2)',
        '3×',
        '1.005×',
        'within noise',
      ],
    ]);
    expect(view!.statements[0]).toBe(
      'D 4096, tokens 1, batch 1: static is 3× as fast as three dynamic passes; static against fused dynamic: the difference is within noise.',
    );
  });

  test('a difference is told from the side of the faster one', () => {
    const [slow, fast] = [figure('a', 100, time), figure('b', 50, time)];
    expect(difference('slow', slow, 'fast', fast)).toBe('fast is 2× as fast as slow');
    const rates = [figure('a', 100), figure('b', 50)] as const;
    expect(difference('a', rates[0], 'b', rates[1])).toBe('a is 2× as fast as b');
  });

  test('a timeline is summed by kernel, the most expensive first', () => {
    const view = viewsOf(file).find(({ timeline }) => timeline !== null)!;
    expect(view.rows).toEqual([
      ['matvec', '1', '3', '75.0 %'],
      ['embed', '1', '1', '25.0 %'],
    ]);
  });
});

describe('report', () => {
  test('tables, charts by name, failures and notes', () => {
    const failed = { ...suite('load', []), error: 'Error: no network', notes: ['left out'] };
    const { markdown, charts } = buildReport([benchFile([...file.suites, failed])], 'benchmarks');
    expect(markdown).toContain('## ACME One');
    expect(markdown).toContain('5 samples a figure; build: not noted.');
    const build = { version: '1.2.3', commit: '0123456789ab', isDirty: true };
    const noted = buildReport([{ ...file, build }], 'benchmarks').markdown;
    expect(noted).toContain('build: 1.2.3, commit 0123456789ab with changes.');
    expect(markdown).toContain('| read | GB/s | 4,805 (4,709 – 4,901) | wall |');
    expect(markdown).toContain('**load failed**: Error: no network');
    expect(markdown).toContain('Note (load): left out');
    expect(charts.length).toBe(3);
    for (const { name, svg } of charts) {
      expect(markdown).toContain(`(benchmarks/${name})`);
      expect(svg).toMatch(/^<svg [^>]*role="img"[^>]*aria-label="[^"]+"[^>]*><style>.*<\/svg>\n$/s);
    }
  });

  test('written to disk with the summary beside it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'bench-'));
    try {
      const build = { version: '1.2.3', commit: '0123456789ab', isDirty: false };
      const built = { ...file, build, date: '2026-01-02T03:04:06.000Z' };
      await writeBenchFile(join(folder, 'results'), built);
      const path = await writeBenchFile(join(folder, 'results'), file);
      expect(path).toMatch(/acme-one-node-2026-01-02T03-04-05\.json$/);
      const files = await readBenchFolder(join(folder, 'results'));
      expect(files).toEqual([file, built]);
      const written = await writeReport(files, join(folder, 'B.md'), join(folder, 'summary.json'));
      expect(written.length).toBe(5);
      const summary = JSON.parse(await readFile(join(folder, 'summary.json'), 'utf8'));
      expect(Object.keys(summary)).toEqual(['ACME One']);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('other engines on the same adapter, as their file says, and none on another', () => {
    const [prefill, decode] = [
      [10_900, 10_900],
      [301, 312],
    ];
    const row = { engine: 'other', version: '1.2', weights: 'Q4_0', prefill, decode, notes: 'a flag' };
    const stored = { format: 'mergequant-other-engines', version: 1, adapterName: 'ACME One', date: null };
    const whole = { ...stored, promptTokens: 512, decodedTokens: 128, model: 'a 7B', figures: [row] };
    const others = parseOtherEngines(JSON.stringify(whole), 'a.json');
    const { markdown } = buildReport([file], 'benchmarks', [others]);
    expect(markdown).toContain('| other | 1.2 | Q4_0 | 10,900 | 301 – 312 | a flag |');
    expect(buildReport([file], 'x', [{ ...others, adapterName: 'ACME Two' }]).markdown).not.toContain('Q4_0');
    const wrong = { ...whole, figures: [{ ...row, decode: [312, 301] }] };
    expect(() => parseOtherEngines(JSON.stringify(wrong), 'a.json')).toThrow(
      /a\.json: at figures\.0\.decode/,
    );
  });

  test('nothing stored yet', async () => {
    expect(await readBenchFolder('/nonexistent')).toEqual([]);
    expect(buildReport([], 'x').markdown).toContain('No results are stored yet.');
  });
});

describe('stored files', () => {
  test('names are safe and tell adapter, runtime and time', () => {
    const name = benchFileName(benchFile([], { adapterName: 'Radeon™ RX / 7900 (RADV)' }));
    expect(name).toBe('radeon-rx-7900-radv-node-2026-01-02T03-04-05.json');
  });

  test('what is not a result is refused with the place', () => {
    expect(() => parseBenchFile('{', 'a.json')).toThrow(BenchFileError);
    const bad = { ...file, suites: [suite('ceiling', [figure('x', 1, { value: exactly(Number.NaN) })])] };
    expect(() => parseBenchFile(JSON.stringify(bad), 'a.json')).toThrow(
      /a\.json: at suites\.0\.figures\.0\.value\./,
    );
  });
});
