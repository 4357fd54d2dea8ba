/** Charts as plain SVG: bars with their range, and the operations of one token in order. Same code in page and report. */
import type { Timeline } from './figures';
import { type ChartData, numberText } from './view';

/** Told apart in both colour schemes and by most colour-blind people (after Okabe and Ito). */
export const seriesColours = [
  '#0072b2',
  '#e69f00',
  '#009e73',
  '#cc79a7',
  '#d55e00',
  '#56b4e9',
  '#8a8a00',
  '#777777',
];

interface Layout {
  readonly width: number;
  /** Of the labels left of the bars; where there is no room for them they stand above, in rows of `labelRow`. */
  readonly labelWidth: number;
  readonly labelRow: number;
  readonly valueWidth: number;
  readonly legendColumns: number;
}

const wideLayout: Layout = { width: 720, labelWidth: 205, labelRow: 0, valueWidth: 110, legendColumns: 3 };
/** For half a window or a phone. */
const narrowLayout: Layout = { width: 360, labelWidth: 0, labelRow: 18, valueWidth: 60, legendColumns: 2 };
const barHeight = 14;
const groupGap = 10;
const legendRow = 16;
const headHeight = 52;

export function seriesColour(index: number): string {
  return seriesColours[index % seriesColours.length]!;
}

/** Says in words what the chart shows, for those who do not see it. */
export function chartText({ title, unit, groups }: ChartData): string {
  const texts = groups.map(({ label, bars }) => {
    return `${label}: ${bars.map(({ series, value }) => `${series} ${numberText(value)} ${unit}`).join(', ')}`;
  });
  return `${title}. ${texts.join('. ')}`;
}

/** Grouped horizontal bars from zero; a thin line shows least and most. */
export function BarChart({ data, narrow = false }: { readonly data: ChartData; readonly narrow?: boolean }) {
  const layout = narrow ? narrowLayout : wideLayout;
  const { width, labelWidth, labelRow, valueWidth } = layout;
  const most = Math.max(...data.groups.flatMap(({ bars }) => bars.map((bar) => bar.value)), Number.MIN_VALUE);
  const span = width - labelWidth - valueWidth;
  const x = (value: number) => labelWidth + span * Math.min(1, Math.max(0, value / most));
  const columns = narrow ? layout.legendColumns : data.series.length;
  let y = headHeight + legendRow * (Math.ceil(data.series.length / columns) - 1);
  const groups = data.groups.map((group) => {
    const top = y + labelRow;
    y = top + group.bars.length * barHeight + groupGap;
    return { ...group, top };
  });
  return (
    <svg
      xmlns="http://www.w3.org/2000/svg"
      viewBox={`0 0 ${width} ${y}`}
      width={width}
      height={y}
      class="chart"
      role="img"
      aria-label={chartText(data)}
      fill="currentColor"
      font-family="system-ui, sans-serif"
      font-size="12"
    >
      <text x="0" y="14" font-size="14" font-weight="600">
        {`${data.title}, ${data.unit}`}
      </text>
      <Legend series={data.series} y={32} width={width} columns={columns} />
      {groups.map(({ label, bars, top }) => (
        <g key={label}>
          {narrow ? (
            <text y={top - 5}>{label}</text>
          ) : (
            <text x={labelWidth - 8} y={top + (bars.length * barHeight) / 2 + 4} text-anchor="end">
              {label}
            </text>
          )}
          {bars.map((bar, i) => {
            const barY = top + i * barHeight;
            const middle = barY + barHeight / 2 - 1;
            return (
              <g key={bar.series}>
                <rect
                  x={labelWidth}
                  y={barY}
                  width={Math.max(1, x(bar.value) - labelWidth)}
                  height={barHeight - 2}
                  rx="2"
                  fill={seriesColour(data.series.indexOf(bar.series))}
                />
                <path
                  d={`M${x(bar.least)} ${middle}H${x(bar.most)}`}
                  stroke="currentColor"
                  stroke-width="1.5"
                />
                <text x={Math.max(x(bar.value), x(bar.most)) + 5} y={barY + barHeight - 3} font-size="11">
                  {numberText(bar.value)}
                </text>
              </g>
            );
          })}
        </g>
      ))}
    </svg>
  );
}

interface LegendProps {
  readonly series: readonly string[];
  readonly y: number;
  readonly width: number;
  readonly columns: number;
}

function Legend({ series, y, width, columns }: LegendProps) {
  const column = Math.min(width / Math.max(1, columns), 170);
  return (
    <g font-size="11">
      {series.map((name, i) => (
        <g
          key={name}
          transform={`translate(${column * (i % columns)} ${y + legendRow * Math.floor(i / columns)})`}
        >
          <rect width="10" height="10" y="-9" rx="2" fill={seriesColour(i)} />
          <text x="14">{name}</text>
        </g>
      ))}
    </g>
  );
}

/** Kernels of a timeline, the most expensive first: they get the first colours. */
function kernelsOf({ ops }: Timeline): string[] {
  const sums = new Map<string, number>();
  for (const { label, us } of ops) sums.set(label, (sums.get(label) ?? 0) + us);
  return [...sums].sort(([, a], [, b]) => b - a).map(([label]) => label);
}

const timelineHeight = 34;

/** Operations from left to right, as wide as they take long, coloured by kernel. */
export function TimelineChart({
  timeline,
  narrow = false,
}: {
  readonly timeline: Timeline;
  readonly narrow?: boolean;
}) {
  const { width, legendColumns } = narrow ? narrowLayout : wideLayout;
  const kernels = kernelsOf(timeline);
  const total = timeline.ops.reduce((sum, { us }) => sum + us, 0);
  const legendTop = timelineHeight + 20;
  const height = legendTop + Math.ceil(kernels.length / legendColumns) * legendRow;
  let at = 0;
  return (
    <svg
      xmlns="http://www.w3.org/2000/svg"
      viewBox={`0 0 ${width} ${height}`}
      width={width}
      height={height}
      class="chart"
      role="img"
      aria-label={`${timeline.ops.length} operations of one token in order, ${numberText(total)} microseconds`}
      fill="currentColor"
      font-family="system-ui, sans-serif"
      font-size="11"
    >
      {timeline.ops.map(({ label, us }, i) => {
        const left = at;
        at += (width * us) / total;
        return (
          <rect
            key={i}
            x={left}
            y="0"
            width={at - left}
            height={timelineHeight}
            fill={seriesColour(kernels.indexOf(label))}
          >
            <title>{`${i + 1}: ${label}, ${numberText(us)} µs`}</title>
          </rect>
        );
      })}
      {kernels.map((label, i) => (
        <g
          key={label}
          transform={`translate(${(width / legendColumns) * (i % legendColumns)} ${legendTop + legendRow * Math.floor(i / legendColumns)})`}
        >
          <rect width="10" height="10" y="-9" rx="2" fill={seriesColour(i)} />
          <text x="14">{label}</text>
        </g>
      ))}
    </svg>
  );
}
