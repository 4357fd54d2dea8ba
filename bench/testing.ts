/** Results made up for the tests of report, summary and comparison. */
import type { BenchFile, Figure, SuiteName, SuiteResult, Timeline } from './figures';

/** A figure with a spread of one percent; counted ones have none. */
export function figure(id: string, value: number, changes: Partial<Figure> = {}): Figure {
  return {
    ...{ id, unit: 'tok/s', better: 'higher', clock: 'wall' },
    value: {
      ...{ median: value, least: 0.98 * value, most: 1.02 * value },
      ...{ deviation: 0.01 * value, samples: 5 },
    },
    ...changes,
  };
}

export function suite(
  name: SuiteName,
  figures: readonly Figure[],
  timelines: readonly Timeline[] = [],
): SuiteResult {
  return { suite: name, seconds: 1, figures, timelines, notes: [], error: null };
}

export function benchFile(suites: readonly SuiteResult[], changes: Partial<BenchFile> = {}): BenchFile {
  return {
    ...{ format: 'mergequant-bench', version: 1, date: '2026-01-02T03:04:05.000Z' },
    runtime: { kind: 'node', name: 'node v20' },
    adapter: { vendor: 'acme', architecture: 'one', device: '', description: 'ACME One' },
    adapterName: 'ACME One',
    caps: {
      ...{ subgroups: true, subgroupMinSize: 32, subgroupMaxSize: 32, shaderF16: false },
      ...{ timestampQuery: true, software: false, packedDot: true, subgroupMatrixI8: false },
    },
    request: {
      suites: suites.map(({ suite: name }) => name),
      ...{ shape: 'llama-2-7b', schemes: ['mergequant-a4'], contexts: [512], samples: 5 },
    },
    suites,
    ...changes,
  };
}
