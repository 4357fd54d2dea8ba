/** One view of results, the texts of figures in it, and how two figures are compared in words. */
import type { Figure, SuiteName, Timeline } from './figures';
import { withinNoise } from './statistics';

export interface Bar {
  /** Which series; bars of one series share a colour. */
  readonly series: string;
  readonly value: number;
  readonly least: number;
  readonly most: number;
}

export interface BarGroup {
  readonly label: string;
  readonly bars: readonly Bar[];
}

export interface ChartData {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly string[];
  readonly groups: readonly BarGroup[];
}

export interface View {
  /** Unique within a file; safe in file names. */
  readonly id: string;
  readonly suite: SuiteName;
  readonly title: string;
  readonly statements: readonly string[];
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly chart: ChartData | null;
  readonly timeline: Timeline | null;
}

/** Four significant digits, thousands grouped. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(4)));
}

/** Median and, where it was measured, the range: `4,805 (4,790 – 4,811)`. */
export function valueText({ value, clock }: Figure): string {
  if (clock === 'count' || value.samples === 1) return numberText(value.median);
  return `${numberText(value.median)} (${numberText(value.least)} – ${numberText(value.most)})`;
}

/** A figure's part of a bar. */
export function barOf({ median, least, most }: Figure['value']): Omit<Bar, 'series'> {
  return { value: median, least, most };
}

/** The part of `id` behind `suite/`, cut at slashes. */
export function parts(id: string): string[] {
  return id.split('/').slice(1);
}

/** Says which of two times is shorter, or that the difference is within the noise of both. */
export function difference(name: string, figure: Figure, otherName: string, other: Figure): string {
  if (withinNoise(figure.value, other.value)) {
    return `${name} against ${otherName}: the difference is within noise`;
  }
  const factor = other.value.median / figure.value.median;
  const better = figure.better === 'higher' ? 1 / factor : factor;
  return better >= 1
    ? `${name} is ${numberText(better)}× as fast as ${otherName}`
    : `${otherName} is ${numberText(1 / better)}× as fast as ${name}`;
}
