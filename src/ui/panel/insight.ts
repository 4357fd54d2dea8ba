/** What reconstruction did to an artifact's steps, as views to draw. */
import type { BarGroup, View } from '../../../bench/view';
import { numberText } from '../../../bench/view';
import type { ArtifactInsight, SiteScales } from '../../../workers/bench-protocol';

/** A site's steps in figures. Steps are relative to the norm's weight, as the artifact stores them. */
export interface SiteSummary {
  /** Columns added: Σ (columns − 1) over split channels. */
  readonly added: number;
  readonly split: number;
  readonly pruned: number;
  /** Largest step over the mean one: what a strong channel costs all others. */
  readonly peakBefore: number;
  /** The same with each split channel's step divided among its columns. */
  readonly peakAfter: number;
}

export function summarizeSite({ steps, columns }: SiteScales): SiteSummary {
  const kept = steps.flatMap((step, k) => (columns[k]! > 0 ? [{ step, columns: columns[k]! }] : []));
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const before = kept.map(({ step }) => step);
  const after = kept.flatMap(({ step, columns: count }) => new Array<number>(count).fill(step / count));
  return {
    added: after.length - before.length,
    split: kept.filter(({ columns: count }) => count > 1).length,
    pruned: steps.length - kept.length,
    peakBefore: Math.max(...before) / mean(before),
    peakAfter: Math.max(...after) / mean(before),
  };
}

const bins = 12;

/** Channels by the size of their step, before and after, in equal parts of the largest. */
export function stepHistogram(sites: readonly SiteScales[]): BarGroup[] {
  const before: number[] = [];
  const after: number[] = [];
  for (const { steps, columns } of sites) {
    const mean = steps.reduce((sum, step) => sum + step, 0) / steps.length;
    steps.forEach((step, k) => {
      const count = columns[k]!;
      if (count === 0) return;
      before.push(step / mean);
      for (let piece = 0; piece < count; piece++) after.push(step / count / mean);
    });
  }
  const most = Math.max(...before);
  const count = (values: readonly number[], bin: number) =>
    values.filter((value) => Math.min(bins - 1, Math.floor((bins * value) / most)) === bin).length;
  return Array.from({ length: bins }, (_, bin) => ({
    label: `${numberText((most * bin) / bins)} – ${numberText((most * (bin + 1)) / bins)}`,
    bars: [
      { series: 'before', ...exact(Math.log10(1 + count(before, bin))) },
      { series: 'after', ...exact(Math.log10(1 + count(after, bin))) },
    ],
  }));
}

function exact(value: number) {
  return { value, least: value, most: value };
}

/** The pictures of an artifact; none for one without merged norms. */
export function insightViews({ name, scheme, alpha, sites, ratios, clips }: ArtifactInsight): View[] {
  if (sites.length === 0) return [];
  const summaries = sites.map((site) => ({ ...site, ...summarizeSite(site) }));
  const label = ({ layer, site }: SiteScales) => `layer ${layer}, ${site}`;
  const added = summaries.reduce((sum, site) => sum + site.added, 0);
  const series = added > 0 ? ['before', 'after'] : ['before']; // the same, where nothing was split
  const drawn = (groups: BarGroup[]): BarGroup[] =>
    groups.map(({ label, bars }) => ({ label, bars: bars.filter((bar) => series.includes(bar.series)) }));
  return [
    {
      ...{
        id: 'insight-peaks',
        suite: 'demo',
        title: `${name}: strongest channel of each norm`,
        timeline: null,
      },
      statements: [
        added > 0
          ? `α = ${alpha}: ${added} columns added in ${sites.length} norms; a step above the mean by more than α standard deviations is split.`
          : `No channel of the ${sites.length} norms was split.`,
      ],
      header: [
        'norm',
        'M, columns added',
        'channels split',
        'pruned',
        'largest/mean before',
        'after',
        'ratio o',
        'ratio down',
      ],
      rows: summaries.map((site) => [
        label(site),
        ...[site.added, site.split, site.pruned].map(String),
        numberText(site.peakBefore),
        numberText(site.peakAfter),
        String(site.site === 'attn' ? (ratios[site.layer]?.o ?? '–') : '–'),
        String(site.site === 'mlp' ? (ratios[site.layer]?.down ?? '–') : '–'),
      ]),
      chart: {
        ...{ title: 'Largest step over the mean', unit: '×', series },
        groups: drawn(
          summaries.map((site) => ({
            label: label(site),
            bars: [
              { series: 'before', ...exact(site.peakBefore) },
              { series: 'after', ...exact(site.peakAfter) },
            ],
          })),
        ),
      },
    },
    {
      ...{ id: 'insight-steps', suite: 'demo', title: `${name}: how large the steps are`, timeline: null },
      statements: [],
      header: ['step over the mean of its norm', 'before, log₁₀(1 + channels)', 'after, log₁₀(1 + columns)'],
      rows: stepHistogram(sites).map(({ label: range, bars }) => [
        range,
        ...bars.map(({ value }) => numberText(value)),
      ]),
      chart: {
        title: 'Channels by step',
        unit: 'log₁₀(1 + count)',
        series,
        groups: drawn(stepHistogram(sites)),
      },
    },
    ...clipViews(name, clips),
    ...(scheme === 'mergequant' ? ratioViews(name, ratios) : []), // elsewhere these are no ratios
  ];
}

/** How much of their channels' ranges the static steps of the norms keep, by layer. */
function clipViews(name: string, clips: ArtifactInsight['clips']): View[] {
  if (clips === null) return [];
  const text = {
    id: 'insight-clips',
    title: `${name}: clip ratios of the norms’ channels`,
    statement:
      'Means over the channels, each of which has its own: 1 keeps the largest value seen in calibration.',
    unit: '× the largest value, mean',
  };
  return [
    layerView(
      text,
      ['attn', 'mlp'],
      clips.map(({ attn, mlp }) => [attn, mlp]),
    ),
  ];
}

/** How much of a token's range the per-token quantizers of o and down keep, by layer. */
function ratioViews(name: string, ratios: ArtifactInsight['ratios']): View[] {
  if (ratios.length === 0) return [];
  const text = {
    id: 'insight-ratios',
    title: `${name}: clip ratios of o and down`,
    statement: '1 keeps a token’s largest value; less gives it up for finer steps of all others.',
    unit: '× the largest value',
  };
  return [
    layerView(
      text,
      ['o', 'down'],
      ratios.map(({ o, down }) => [o, down]),
    ),
  ];
}

interface LayerText {
  readonly id: string;
  readonly title: string;
  readonly statement: string;
  readonly unit: string;
}

/** A bar for each series in each layer; null draws none. */
function layerView(
  { id, title, statement, unit }: LayerText,
  series: readonly string[],
  layers: readonly (readonly (number | null)[])[],
): View {
  return {
    ...{ id, suite: 'demo', title, timeline: null, statements: [statement], header: ['layer', ...series] },
    rows: layers.map((values, layer) => [
      String(layer),
      ...values.map((value) => (value === null ? '–' : numberText(value))),
    ]),
    chart: {
      ...{ title: 'Clip ratio', unit, series },
      groups: layers.map((values, layer) => ({
        label: `layer ${layer}`,
        bars: values.flatMap((value, i) => (value === null ? [] : [{ series: series[i]!, ...exact(value) }])),
      })),
    },
  };
}
