/** What a benchmark produces: named figures with units, in a file that says where they were measured. */
import type { AdapterSummary, GpuCaps } from '../src/gpu/gpu';
import type { BuildId } from './build-id';
import type { Summary } from './statistics';

export const suiteNames = [
  'ceiling',
  'kernels',
  'quant-step',
  'layer',
  'decode',
  'persistent',
  'load',
  'demo',
] as const;
export type SuiteName = (typeof suiteNames)[number];

export type Unit =
  | 'us'
  | 'ms'
  | 'GB/s'
  | 'MB/s'
  | 'TOPS'
  | 'tok/s'
  | 'bytes'
  | 'dispatches'
  | 'submits'
  | '%'
  | 'x';

export interface Figure {
  /** Stable: files of different days are compared by it. Slashes separate levels. */
  readonly id: string;
  readonly unit: Unit;
  /** Which way is progress; `none` for facts. */
  readonly better: 'higher' | 'lower' | 'none';
  readonly value: Summary;
  /** `gpu`: timestamp queries. `wall`: the CPU's clock around submitted work. `count`: counted. */
  readonly clock: 'gpu' | 'wall' | 'count';
}

/** One operation of a decoded token, in order. */
export interface TimelineOp {
  readonly label: string;
  readonly us: number;
}

/** The operations of one decoded token, each timed in a compute pass of its own. */
export interface Timeline {
  /** The figures' prefix it belongs to. */
  readonly id: string;
  readonly ops: readonly TimelineOp[];
}

export interface SuiteResult {
  readonly suite: SuiteName;
  readonly seconds: number;
  readonly figures: readonly Figure[];
  readonly timelines: readonly Timeline[];
  /** What was left out and why. */
  readonly notes: readonly string[];
  /** Why the suite ended early; what it had measured until then is kept. */
  readonly error: string | null;
}

export interface Runtime {
  readonly kind: 'node' | 'browser';
  /** E.g. `node v20.20.2`, or the browser's user agent. */
  readonly name: string;
}

export interface BenchFile {
  readonly format: 'mergequant-bench';
  readonly version: 1;
  /** ISO 8601, UTC. */
  readonly date: string;
  /** Missing in files from before it was noted. */
  readonly build?: BuildId | undefined;
  readonly runtime: Runtime;
  readonly adapter: AdapterSummary;
  readonly adapterName: string;
  readonly caps: GpuCaps;
  readonly request: BenchRequest;
  readonly suites: readonly SuiteResult[];
}

/** What to measure. */
export interface BenchRequest {
  readonly suites: readonly SuiteName[];
  /** A name of {@link file://./shapes.ts}. */
  readonly shape: string;
  /** Scheme names with bits, e.g. `mergequant-a4`; see `parseScheme`. */
  readonly schemes: readonly string[];
  readonly contexts: readonly number[];
  /** Samples a figure. */
  readonly samples: number;
}

/** What a suite was given does not make sense. */
export class BenchRequestError extends Error {
  override readonly name = 'BenchRequestError';
}

/** A kernel's output was wrong, so that its time means nothing. */
export class VerificationError extends Error {
  override readonly name = 'VerificationError';
}

/** The adapter as people call it, where the platform says; else vendor and architecture. */
export function adapterName({ vendor, architecture, device, description }: AdapterSummary): string {
  return description || device || [vendor, architecture].filter(Boolean).join(' ') || 'unknown adapter';
}

/** All figures of a file by id. */
export function figuresById(file: BenchFile): Map<string, Figure> {
  return new Map(file.suites.flatMap(({ figures }) => figures).map((figure) => [figure.id, figure]));
}

/** The figure called `id`, or null. */
export function findFigure(file: BenchFile, id: string): Figure | null {
  for (const { figures } of file.suites) {
    const found = figures.find((figure) => figure.id === id);
    if (found) return found;
  }
  return null;
}
