/** The tables of `mergequant eval` as Markdown. */
import type { Site } from '../src/quantize/forward';
import type { EvalResult, FloatResult } from '../src/quantize/run-eval';
import type { EvalHeader } from './eval-store';

export interface EvalTable {
  readonly header: EvalHeader;
  /** In the suite's order of rows, then by seed. */
  readonly results: readonly EvalResult[];
}

/** One row of a table: a setting with each of its seeds. */
interface Row {
  readonly label: string;
  readonly results: readonly EvalResult[];
}

const titles: Readonly<Record<string, string>> = {
  ladder: 'The ladder: each step of the method, weights alone, activations alone',
  schemes: 'Schemes with the same budget',
  w3: '3-bit weights',
  clipping: 'Clipping: channels behind norms, tokens in front of o and down',
  outliers: 'Outliers, injected by γ and by a rotation that concentrates energy',
  beyond: 'Beyond the paper',
  gptq: 'Ways to run GPTQ',
};

/** Mean, and half the range over seeds when there are several. */
function spread(values: readonly number[], digits: number): string {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const half = (Math.max(...values) - Math.min(...values)) / 2;
  return values.length > 1 ? `${mean.toFixed(digits)} ± ${half.toFixed(digits)}` : mean.toFixed(digits);
}

/** The largest over the layers of the strongest over the median channel. */
function strongest(ratios: FloatResult['outlierRatios'], site: Site): string {
  return Math.max(...ratios.map((layer) => layer[site])).toFixed(1);
}

/** The four sites of what a row quantized; results of older runs do not have them. */
function channelCell({ outlierRatios }: EvalResult): string {
  if (!outlierRatios) return '–';
  return (['attn', 'o', 'mlp', 'down'] as const).map((site) => strongest(outlierRatios, site)).join(' / ');
}

function mainRow({ label, results }: Row): string {
  const all = (pick: (result: EvalResult) => number, digits: number) => spread(results.map(pick), digits);
  const cells = [
    label,
    all(({ ppl }) => ppl, 2),
    all(({ ratio }) => ratio, 3),
    all(({ kl }) => kl, 4),
    all(({ top1 }) => 100 * top1, 1),
    channelCell(results[0]!),
    all(({ addedColumns }) => addedColumns, 0),
    all(({ quantizeSeconds }) => quantizeSeconds, 1),
  ];
  return `| ${cells.join(' | ')} |`;
}

/** Errors of a row's first seed, a column a layer. */
function layerRow({ label, results }: Row): string {
  return `| ${[label, ...results[0]!.layerErrors.map((error) => error.toFixed(4))].join(' | ')} |`;
}

function tableHead(cells: readonly string[]): string[] {
  return [`| ${cells.join(' | ')} |`, `| ${cells.map(() => '---').join(' | ')} |`];
}

function rowsOf(results: readonly EvalResult[]): Row[] {
  const labels = [...new Set(results.map(({ label }) => label))];
  return labels.map((label) => ({ label, results: results.filter((result) => result.label === label) }));
}

function layerErrors(rows: readonly Row[]): string[] {
  const layers = Math.max(0, ...rows.map(({ results }) => results[0]!.layerErrors.length));
  return [
    '<details><summary>Error behind each layer</summary>',
    '',
    ...tableHead(['', ...Array.from({ length: layers }, (_, i) => String(i))]),
    ...rows.map(layerRow),
    '',
    '</details>',
  ];
}

/** How a table was made, and the float model that it compares with. */
function introduction({ header, results }: EvalTable): string {
  const { settings, float, machine } = header;
  const seeds = [...new Set(results.map(({ seed }) => seed))].sort((a, b) => a - b);
  const seedNote = seeds.length > 1 ? `seeds ${seeds.join(', ')}, ± half their range` : `seed ${seeds[0]}`;
  return (
    `${machine}, quantized on the ${settings.device}; ${settings.samples} calibration sequences, ${seedNote}; ` +
    `${float.windows} windows, ${float.tokens} predicted tokens. Float model: perplexity ${float.ppl.toFixed(3)}; ` +
    `strongest over median channel: q,k,v ${strongest(float.outlierRatios, 'attn')}, ` +
    `o ${strongest(float.outlierRatios, 'o')}, gate,up ${strongest(float.outlierRatios, 'mlp')}, ` +
    `down ${strongest(float.outlierRatios, 'down')}.`
  );
}

/** One suite's section: how it was made, the float model, a row per setting, the layers' errors. */
export function evalReport(table: EvalTable): string {
  const { settings, command } = table.header;
  const rows = rowsOf(table.results);
  return `${[
    `## ${titles[settings.suite] ?? settings.suite}`,
    '',
    `\`${command}\``,
    '',
    introduction(table),
    '',
    ...tableHead(['', 'perplexity', '× float', 'KL', 'top-1 %', 'max / median', 'M', 'quantize s']),
    ...rows.map(mainRow),
    '',
    ...layerErrors(rows),
  ].join('\n')}\n`;
}

/** A whole document of sections. */
export function evalDocument(tables: readonly EvalTable[]): string {
  return `${[
    '# Results',
    'Written by `mergequant eval … --results <folder> --report <this file>` from the results kept in that folder; each table ' +
      'names the command that made it. KL in nats against the float model; "max / median" is the strongest over the median ' +
      "channel's largest activation in what the row quantizes (q,k,v / o / gate,up / down, the worst layer; all windows, or the " +
      'first where the checkpoint is rotated or changed); M counts the columns that reconstruction added; "error behind each layer" is ' +
      '‖x − x_float‖² / ‖x_float‖² of the residual stream, first window, first seed. Seconds depend on what else ran beside a ' +
      'row. LOG.md says what was concluded.',
    ...tables.map(evalReport),
  ].join('\n\n')}`;
}
