/** Views of what was measured of whole models: rates by context, and what a token costs besides its time. */
import type { Figure } from './figures';
import { barOf, type ChartData, difference, numberText, parts, type View, valueText } from './view';

type ModelSuite = 'decode' | 'demo';

/** Figures of one suite by model (`llama-2-7b/mergequant-a4`) and name (`context-512/decode`). */
class ModelFigures {
  readonly models: readonly string[];
  readonly contexts: readonly string[];

  constructor(
    readonly suite: ModelSuite,
    readonly figures: readonly Figure[],
  ) {
    const depth = suite === 'decode' ? 2 : 1;
    this.models = [...new Set(figures.map(({ id }) => parts(id).slice(0, depth).join('/')))];
    const names = figures.map(({ id }) => parts(id)[depth]!);
    this.contexts = [...new Set(names)].filter((name) => name.startsWith('context-'));
  }

  of(model: string, name: string): Figure | undefined {
    return this.figures.find(({ id }) => id === `${this.suite}/${model}/${name}`);
  }

  cell(model: string, name: string): string {
    const figure = this.of(model, name);
    return figure ? valueText(figure) : '–';
  }

  /** Contexts that some model has this rate for. */
  contextsWith(rate: string): readonly string[] {
    return this.contexts.filter((context) =>
      this.models.some((model) => this.of(model, `${context}/${rate}`)),
    );
  }
}

export function modelViews(suite: ModelSuite, figures: readonly Figure[]): View[] {
  const data = new ModelFigures(suite, figures);
  if (data.contextsWith('decode').length === 0) return [];
  const prefill = data.contextsWith('prefill').length > 0 ? [prefillView(data)] : [];
  return [decodeView(data), ...prefill, costView(data)];
}

/** A group of bars for each model, a series for each context. */
function rateChart(data: ModelFigures, rate: 'decode' | 'prefill', title: string): ChartData {
  const contexts = data.contextsWith(rate);
  const groups = data.models.map((model) => ({
    label: model.split('/').at(-1)!,
    bars: contexts.flatMap((context) => {
      const figure = data.of(model, `${context}/${rate}`);
      return figure ? [{ series: seriesName(context), ...barOf(figure.value) }] : [];
    }),
  }));
  return { title, unit: 'tok/s', series: contexts.map(seriesName), groups };
}

function seriesName(context: string): string {
  return context.replace('-', ' ');
}

function decodeView(data: ModelFigures): View {
  const { suite, models } = data;
  const title = suite === 'demo' ? 'The bundled model' : 'Decode and prefill';
  return {
    ...{ id: `${suite}-rates`, suite, title, timeline: null, statements: schemeStatements(data) },
    header: ['model', 'context', 'decode, tok/s', 'prefill, tok/s', 'first token, ms'],
    rows: models.flatMap((model) =>
      data.contexts
        .filter((context) => data.of(model, `${context}/decode`))
        .map((context) => [
          ...[model, context.slice('context-'.length)],
          ...['decode', 'prefill', 'first-token'].map((name) => data.cell(model, `${context}/${name}`)),
        ]),
    ),
    chart: rateChart(data, 'decode', 'Decode'),
  };
}

function prefillView(data: ModelFigures): View {
  const { suite, models } = data;
  const contexts = data.contextsWith('prefill');
  return {
    ...{ id: `${suite}-prefill`, suite, title: 'Prefill', timeline: null, statements: [] },
    header: ['model', ...contexts.map((context) => `${seriesName(context)}, tok/s`)],
    rows: models.map((model) => [
      model,
      ...contexts.map((context) => data.cell(model, `${context}/prefill`)),
    ]),
    chart: rateChart(data, 'prefill', 'Prefill'),
  };
}

const costNames = [
  ...['dispatches', 'submits', 'encode', 'create'],
  ...['memory/weights', 'memory/embeddings', 'memory/kv-cache', 'memory/scratch', 'memory/total'],
  'memory/total-2048',
];

function costView(data: ModelFigures): View {
  const { suite, models } = data;
  const found = costNames.flatMap((name) => {
    const model = models.find((candidate) => data.of(candidate, name));
    return model === undefined ? [] : [{ name, unit: data.of(model, name)!.unit }];
  });
  return {
    ...{ id: `${suite}-costs`, suite, title: 'A token besides its time', timeline: null, statements: [] },
    header: [
      'model',
      ...found.map(({ name, unit }) => {
        if (unit === 'bytes') return `${name}, MiB`;
        return unit === 'ms' ? `${name}, ms` : name;
      }),
    ],
    rows: models.map((model) => [model, ...found.map(({ name }) => costText(data.of(model, name)))]),
    chart: null,
  };
}

function costText(figure: Figure | undefined): string {
  if (!figure) return '–';
  return figure.unit === 'bytes' ? numberText(figure.value.median / 2 ** 20) : valueText(figure);
}

/** Static against dynamic and against float, at each context. */
function schemeStatements(data: ModelFigures): string[] {
  const statics = data.models.find((model) => model.endsWith('/mergequant-a4'));
  if (statics === undefined) return [];
  return data.contexts.flatMap((context) =>
    ['rtn-dynamic-a4', 'fp16'].flatMap((name) => {
      const other = data.models.find((model) => model.endsWith(`/${name}`));
      const own = data.of(statics, `${context}/decode`);
      const theirs = other === undefined ? undefined : data.of(other, `${context}/decode`);
      return own && theirs
        ? [`Decode, ${seriesName(context)}: ${difference('mergequant-a4', own, name, theirs)}.`]
        : [];
    }),
  );
}
