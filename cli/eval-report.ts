/** The tables of `mergequant eval` as Markdown. */
import type { EvalResult } from '../src/quantize/run-eval';
import type { EvalHeader } from './eval-store';

export interface EvalTable {
  readonly header: EvalHeader;
  /** In the suite's order of rows, then by seed. */
  readonly results: readonly EvalResult[];
}

const titles: Readonly<Record<string, string>> = {
  ladder: 'The ladder: each step of the method, weights alone, activations alone',
  schemes: 'Schemes with the same budget',
  w3: '3-bit weights',
  outliers: 'Outliers, injected by γ and by a rotation that concentrates energy',
  gptq: 'Ways to run GPTQ',
};

/** Mean, and half the range over seeds when there are several. */
function spread(values: readonly number[], digits: number): string {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const half = (Math.max(...values) - Math.min(...values)) / 2;
  return values.length > 1 ? `${mean.toFixed(digits)} ± ${half.toFixed(digits)}` : mean.toFixed(digits);
}

function tableRow(label: string, results: readonly EvalResult[]): string {
  const all = (pick: (result: EvalResult) => number, digits: number) => spread(results.map(pick), digits);
  const errors = results[0]!.layerErrors;
  const cells = [
    label,
    all(({ ppl }) => ppl, 2),
    all(({ ratio }) => ratio, 3),
    all(({ kl }) => kl, 4),
    all(({ top1 }) => 100 * top1, 1),
    `${errors[0]?.toFixed(4)} … ${errors.at(-1)?.toFixed(4)}`,
    all(({ addedColumns }) => addedColumns, 0),
    all(({ quantizeSeconds }) => quantizeSeconds, 1),
  ];
  return `| ${cells.join(' | ')} |`;
}

/** One suite's section: how it was made, the float model, a row per setting. */
export function evalReport({ header, results }: EvalTable): string {
  const { settings, float, machine, command } = header;
  const labels = [...new Set(results.map(({ label }) => label))];
  const seeds = [...new Set(results.map(({ seed }) => seed))].sort((a, b) => a - b);
  const strongest = (site: 'attn' | 'o' | 'mlp' | 'down') =>
    Math.max(...float.outlierRatios.map((ratios) => ratios[site])).toFixed(1);
  const spreadNote = seeds.length > 1 ? `seeds ${seeds.join(', ')}, ± half their range` : `seed ${seeds[0]}`;
  return `${[
    `## ${titles[settings.suite] ?? settings.suite}`,
    '',
    `\`${command}\``,
    '',
    `${machine}, quantized on the ${settings.device}; ${settings.samples} calibration sequences, ${spreadNote}; ` +
      `${float.windows} windows, ${float.tokens} predicted tokens. Float model: perplexity ${float.ppl.toFixed(3)}; ` +
      `strongest over median channel: q,k,v ${strongest('attn')}, o ${strongest('o')}, gate,up ${strongest('mlp')}, ` +
      `down ${strongest('down')}.`,
    '',
    '| | perplexity | × float | KL | top-1 % | layer error, first … last | M | quantize s |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...labels.map((label) =>
      tableRow(
        label,
        results.filter((result) => result.label === label),
      ),
    ),
  ].join('\n')}\n`;
}

/** A whole document of sections. */
export function evalDocument(tables: readonly EvalTable[]): string {
  return `${[
    '# Results',
    'Written by `mergequant eval … --results <folder> --report <this file>` from the results kept in that folder; each table ' +
      'names the command that made it. KL in nats against the float model; "layer error" is ‖x − x_float‖² / ‖x_float‖² of the ' +
      'residual stream behind the first and the last layer, first window; M counts the columns that reconstruction added. ' +
      'Seconds depend on what else ran beside a row. LOG.md says what was concluded.',
    ...tables.map(evalReport),
  ].join('\n\n')}`;
}
