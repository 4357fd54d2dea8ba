/** Results as people read them: a title, what it says, a table, and a chart of the same. For report and panel. */
import { type BenchFile, type Figure, figuresById, type SuiteName, type Timeline } from './figures';
import { modelViews } from './model-views';
import { withinNoise } from './statistics';
import {
  type BarGroup,
  barOf,
  type ChartData,
  difference,
  numberText,
  parts,
  type View,
  valueText,
} from './view';

/** Every view that a file has figures for. */
export function viewsOf(file: BenchFile): View[] {
  const figures = figuresById(file);
  const views: View[] = [];
  for (const { suite, timelines } of file.suites) {
    const own = [...figures.values()].filter(({ id }) => id.startsWith(`${suite}/`));
    if (suite === 'quant-step') views.push(...quantStepViews(own));
    else if (suite === 'layer') views.push(...layerViews(own));
    else if (suite === 'decode' || suite === 'demo') views.push(...modelViews(suite, own));
    else if (own.length > 0) views.push(listView(suite, own));
    views.push(...timelines.map(timelineView));
  }
  return views;
}

const listTitles: Partial<Record<SuiteName, string>> = {
  ceiling: 'What the device can do',
  kernels: 'Products of each shape',
  load: 'Artifact to GPU',
};

function listView(suite: SuiteName, figures: readonly Figure[]): View {
  return {
    ...{ id: suite, suite, title: listTitles[suite] ?? suite, statements: [], timeline: null },
    header: ['figure', 'unit', 'median (range)', 'clock'],
    rows: figures.map((figure) => [
      figure.id.slice(suite.length + 1),
      figure.unit,
      valueText(figure),
      figure.clock,
    ]),
    chart: suite === 'kernels' ? kernelChart(figures) : null,
  };
}

/** Share of the read ceiling that each product's decode reaches. */
function kernelChart(figures: readonly Figure[]): ChartData | null {
  const gross = figures.filter(({ id }) => id.endsWith('/decode/ceiling-gross'));
  const groups = gross.map(({ id, value }) => {
    const net = figures.find((figure) => figure.id === id.replace('gross', 'net'));
    const bars = [{ series: 'dispatch included', ...barOf(value) }];
    if (net) bars.push({ series: 'dispatch subtracted', ...barOf(net.value) });
    return { label: id.split('/').slice(2, 4).join(' '), bars };
  });
  if (groups.length === 0) return null;
  const series = ['dispatch included', 'dispatch subtracted'];
  return { title: 'Share of the read ceiling, one token', unit: '%', series, groups };
}

const stepSeries = ['naive', 'fused', 'static'] as const;
const stepNames = {
  naive: 'dynamic, three passes',
  fused: 'dynamic, fused',
  static: 'static, merged',
} as const;

function quantStepViews(figures: readonly Figure[]): View[] {
  const shapes = [...new Set(figures.map(({ id }) => parts(id).slice(0, 3).join('/')))];
  const rows: string[][] = [];
  const groups: BarGroup[] = [];
  const statements: string[] = [];
  for (const shape of shapes) {
    const of = (name: string) => figures.find(({ id }) => id === `quant-step/${shape}/${name}`);
    const times = stepSeries.map((name) => of(name));
    if (times.some((figure) => !figure)) continue;
    const [naive, fused, statics] = times as Figure[];
    const label = shape.replace('h', 'D ').replace('/t', ', tokens ').replace('/b', ', batch ');
    const ratio = (slow: Figure) => `${numberText(slow.value.median / statics!.value.median)}×`;
    const noise = withinNoise(fused!.value, statics!.value) ? 'within noise' : '';
    rows.push([label, ...times.map((figure) => valueText(figure!)), ratio(naive!), ratio(fused!), noise]);
    groups.push({
      label,
      bars: times.map((figure, i) => ({ series: stepNames[stepSeries[i]!], ...barOf(figure!.value) })),
    });
    statements.push(stepStatement(label, naive!, fused!, statics!));
  }
  if (rows.length === 0) return [];
  const series = Object.values(stepNames);
  return [
    {
      ...{ id: 'quant-step', suite: 'quant-step', title: 'Quantization step alone', timeline: null },
      statements: statements.slice(0, 3),
      header: [
        'shape',
        ...series.map((name) => `${name}, µs`),
        'naive/static',
        'fused/static',
        'fused vs static',
      ],
      rows,
      // The largest batches would leave nothing of the others to see.
      chart: { title: 'Quantization step', unit: 'µs', series, groups: groups.slice(0, 6) },
    },
  ];
}

function stepStatement(label: string, naive: Figure, fused: Figure, statics: Figure): string {
  return `${label}: ${difference('static', statics, 'three dynamic passes', naive)}; ${difference('static', statics, 'fused dynamic', fused)}.`;
}

function layerViews(figures: readonly Figure[]): View[] {
  const schemes = [...new Set(figures.map(({ id }) => parts(id).slice(0, 2).join('/')))];
  const names = [...new Set(figures.map(({ id }) => parts(id)[2]!))];
  const timeNames = names.filter((name) => /^(decode|prefill)/.test(name));
  const of = (scheme: string, name: string) => figures.find(({ id }) => id === `layer/${scheme}/${name}`);
  const statics = schemes.find((scheme) => scheme.endsWith('/mergequant-a4'));
  const dynamic = schemes.find((scheme) => scheme.endsWith('/rtn-dynamic-a4'));
  const statements = timeNames.flatMap((name) => {
    const [a, b] = [of(statics ?? '', name), of(dynamic ?? '', name)];
    return a && b ? [`${name}: ${difference('static', a, 'dynamic', b)}.`] : [];
  });
  if (schemes.length === 0) return [];
  return [
    {
      ...{ id: 'layer', suite: 'layer', title: 'One layer', timeline: null, statements },
      header: ['scheme', ...names.map((name) => (timeNames.includes(name) ? `${name}, µs` : name))],
      rows: schemes.map((scheme) => [
        scheme,
        ...names.map((name) => {
          const figure = of(scheme, name);
          return figure ? valueText(figure) : '–';
        }),
      ]),
      chart: {
        ...{ title: 'One layer, GPU time', unit: 'µs', series: timeNames },
        groups: schemes.map((scheme) => ({
          label: scheme.split('/')[1]!,
          bars: timeNames.flatMap((name) => {
            const figure = of(scheme, name);
            return figure ? [{ series: name, ...barOf(figure.value) }] : [];
          }),
        })),
      },
    },
  ];
}

/** Time of one token by kernel, largest first. */
function timelineView(timeline: Timeline): View {
  const sums = new Map<string, { us: number; count: number }>();
  for (const { label, us } of timeline.ops) {
    const before = sums.get(label) ?? { us: 0, count: 0 };
    sums.set(label, { us: before.us + us, count: before.count + 1 });
  }
  const sorted = [...sums].sort(([, a], [, b]) => b.us - a.us);
  const total = sorted.reduce((sum, [, { us }]) => sum + us, 0);
  return {
    ...{ id: `timeline-${timeline.id.replaceAll('/', '-')}`, suite: 'decode', timeline, chart: null },
    title: `One token by kernel: ${timeline.id.split('/').slice(1).join(', ')}`,
    statements: [
      `${timeline.ops.length} operations, each in a pass of its own: ${numberText(total)} µs in all, more than they take in one pass.`,
    ],
    header: ['kernel', 'times', 'µs', 'share'],
    rows: sorted.map(([label, { us, count }]) => [
      label,
      String(count),
      numberText(us),
      `${((100 * us) / total).toFixed(1)} %`,
    ]),
  };
}
