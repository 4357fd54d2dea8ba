/** The tables of `mergequant eval` as Markdown. */
import type { EvalResult, FloatResult } from '../src/quantize/run-eval';

export interface EvalTable {
  readonly suite: string;
  readonly float: FloatResult;
  readonly results: readonly EvalResult[];
  readonly seconds: number;
  readonly machine: string;
  readonly command: string;
}

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
export function evalReport(table: EvalTable): string {
  const { suite, float, results, seconds, machine, command } = table;
  const labels = [...new Set(results.map(({ label }) => label))];
  const seeds = [...new Set(results.map(({ seed }) => seed))];
  const strongest = (site: 'attn' | 'o' | 'mlp' | 'down') =>
    Math.max(...float.outlierRatios.map((ratios) => ratios[site])).toFixed(1);
  return `${[
    `## ${suite}`,
    '',
    `\`${command}\``,
    '',
    `${machine}; ${seconds > 5 ? `${seconds.toFixed(0)} s in all; ` : ''}calibration seeds ${seeds.join(', ')}, ± half their range; ` +
      `${float.windows} windows, ${float.tokens} predicted tokens. Float model: perplexity ${float.ppl.toFixed(3)}; strongest ` +
      `over median channel: q,k,v ${strongest('attn')}, o ${strongest('o')}, gate,up ${strongest('mlp')}, down ${strongest('down')}.`,
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
