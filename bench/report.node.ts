/** docs/BENCHMARKS.md with its charts, and bench/summary.json, from all stored results. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { h, type VNode } from 'preact';
import { renderToStaticMarkup } from 'preact-render-to-string';
import { buildText } from './build-id';
import { BarChart, TimelineChart } from './charts';
import type { BenchFile } from './figures';
import { type OtherEngines, otherEnginesHeader, otherEnginesRows, otherEnginesText } from './other-engines';
import { benchFileName } from './results-folder.node';
import { type AdapterFigures, adapterFigures, byAdapter, summaryOf } from './summary';
import { numberText, type View } from './view';
import { viewsOf } from './views';

/** Follows the reader's colour scheme where the picture is shown on its own. */
const style = '<style>svg{color:#1c1b19}@media(prefers-color-scheme:dark){svg{color:#ecebe6}}</style>';

/** The targets' names in the report's first table. */
const summaryTitles: Readonly<Record<keyof AdapterFigures, string>> = {
  gemv_pct_ceiling_net: 'int4 linears of 7B, % of the read ceiling, dispatch cost subtracted',
  gemv_pct_ceiling_gross: 'the same, dispatch cost included',
  decode_512_tok_s_chromium: 'decode at context 512 in the browser, tok/s',
  decode_512_tok_s_node: 'decode at context 512 in Node, tok/s',
  decode_vs_fp16: 'decode against our own fp16, same run, ×',
  prefill_2048_tok_s_core: 'prefill of 2048 without experimental features, tok/s',
  prefill_2048_tok_s_matrix: 'prefill of 2048 with subgroup matrices, tok/s',
  prefill_vs_fp16: 'prefill against our own fp16, same run, neither with experimental features, ×',
  static_vs_dynamic_step: 'static step against naive dynamic step, 1 token, ×',
  device_gib_2048:
    'device memory at context 2048, GiB (with an 8-bit cache, embedding and head where measured)',
  dispatches_per_token: 'dispatches per decoded token',
  decode_4000_vs_512: 'decode at context 4000 against 512, ×',
};

interface Chart {
  readonly name: string;
  readonly svg: string;
}

export interface Report {
  readonly markdown: string;
  readonly charts: readonly Chart[];
}

/** Markdown that refers to its charts in `folder`, relative to the document. */
export function buildReport(
  files: readonly BenchFile[],
  folder: string,
  others: readonly OtherEngines[] = [],
): Report {
  const charts: Chart[] = [];
  const lines = [
    '# Benchmarks',
    '',
    'Written by `npm run bench:report` from the files in `bench/results`; do not edit. Medians, least and most in',
    'parentheses. `gpu` figures come from timestamp queries, `wall` figures from the CPU’s clock.',
    '',
    'GPU clocks are held up while anything is timed; how near to the highest clock samples were taken stands under each suite. The',
    'spread in parentheses, and every "within noise" below, is of samples within one run: equal runs can lie further apart.',
  ];
  for (const [adapter, group] of byAdapter(files)) {
    lines.push('', `## ${adapter}`, '', ...summaryLines(summaryOf(group)[adapter]!, group));
    for (const other of others.filter(({ adapterName }) => adapterName === adapter)) {
      lines.push('', `### Other engines`, '', otherEnginesText(other), '');
      lines.push(...markdownTable(otherEnginesHeader, otherEnginesRows(other)));
    }
    for (const file of newestPerRuntime(group)) lines.push(...fileLines(file, folder, charts));
  }
  if (files.length === 0) lines.push('', 'No results are stored yet.');
  return { markdown: `${lines.join('\n')}\n`, charts };
}

/** The newest file of each runtime and set of suites: older ones stay in the folder. */
function newestPerRuntime(group: readonly BenchFile[]): BenchFile[] {
  const seen = new Set<string>();
  return group.filter(({ runtime, request, caps }) => {
    const key = [runtime.kind, request.shape, caps.subgroupMatrixI8, ...request.suites].join();
    return !seen.has(key) && seen.add(key);
  });
}

/** The newest figure, and how far the stored runs lie apart: more than the spread within any one of them. */
function summaryLines(figures: AdapterFigures, group: readonly BenchFile[]): string[] {
  const keys = Object.keys(summaryTitles) as (keyof AdapterFigures)[];
  const runs = group.map((file) => adapterFigures([file]));
  const rows = keys.map((key) => {
    const value = figures[key];
    const values = runs.flatMap((run) => run[key] ?? []);
    const range = `${numberText(Math.min(...values))} – ${numberText(Math.max(...values))}`;
    const all = values.length > 0 ? [range, String(values.length)] : ['–', '0'];
    return [summaryTitles[key], value === null ? 'not measured' : numberText(value), ...all];
  });
  return markdownTable(['figure', 'newest run', 'range over stored runs', 'runs'], rows);
}

function fileLines(file: BenchFile, folder: string, charts: Chart[]): string[] {
  const { date, build, runtime, caps, request } = file;
  const features = Object.entries(caps).flatMap(([name, value]) => (value === true ? [name] : []));
  const lines = [
    '',
    `### ${runtime.kind === 'node' ? 'Node' : 'Browser'}, ${date.slice(0, 10)}`,
    '',
    `${runtime.name}; features: ${features.join(', ') || 'none'}; ${request.samples} samples a figure; build: ${buildText(build)}.`,
  ];
  const base = benchFileName(file).replace(/\.json$/, '');
  for (const view of viewsOf(file)) lines.push(...viewLines(view, base, folder, charts));
  for (const { suite, notes, error } of file.suites) {
    if (error !== null) lines.push('', `**${suite} failed**: ${error}`);
    for (const note of notes) lines.push('', `Note (${suite}): ${note}`);
  }
  return lines;
}

function viewLines(view: View, base: string, folder: string, charts: Chart[]): string[] {
  const lines = ['', `#### ${view.title}`];
  if (view.statements.length > 0) lines.push('', ...view.statements.map((text) => `- ${text}`));
  const svg = view.chart
    ? svgText(h(BarChart, { data: view.chart }))
    : view.timeline && svgText(h(TimelineChart, { timeline: view.timeline }));
  if (svg) {
    const name = `${base}-${view.id}.svg`.replace(/[^A-Za-z0-9.-]+/g, '-');
    charts.push({ name, svg });
    lines.push('', `![${view.title}](${folder}/${name})`);
  }
  return [...lines, '', ...markdownTable(view.header, view.rows)];
}

function svgText<Props>(chart: VNode<Props>): string {
  return `${renderToStaticMarkup(chart as VNode).replace('>', `>${style}`)}\n`;
}

function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)];
}

/** Writes the document, its charts in a folder beside it, and the summary. Returns the paths written. */
export async function writeReport(
  files: readonly BenchFile[],
  documentPath: string,
  summaryPath: string,
  others: readonly OtherEngines[] = [],
): Promise<string[]> {
  const folder = 'benchmarks';
  const chartFolder = join(dirname(documentPath), folder);
  const { markdown, charts } = buildReport(files, folder, others);
  await rm(chartFolder, { recursive: true, force: true });
  await mkdir(chartFolder, { recursive: true });
  for (const { name, svg } of charts) await writeFile(join(chartFolder, name), svg);
  await writeFile(documentPath, markdown);
  await writeFile(summaryPath, `${JSON.stringify(summaryOf(files), null, 2)}\n`);
  return [documentPath, summaryPath, ...charts.map(({ name }) => join(chartFolder, name))];
}
