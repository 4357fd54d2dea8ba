/** A run as part of an address, so that a link reproduces it. */
import { type BenchRequest, type SuiteName, suiteNames } from '../../../bench/figures';
import { benchShapes, defaultSchemes, parseScheme } from '../../../bench/shapes';
import type { ProbedGpu } from '../../../workers/bench-protocol';

/** What one press measures unless the address says otherwise, and the shape until the GPU is known. */
export const defaultRequest: BenchRequest = {
  suites: ['ceiling', 'quant-step', 'layer', 'decode'],
  shape: 'tiny',
  schemes: defaultSchemes,
  contexts: [16, 512],
  samples: 5,
};

/** Buffers this large come with GPUs of many gigabytes; graphics processors that share memory offer less. */
const largeBufferBytes = 4 * 2 ** 30 - 4;

/**
 * The shape whose figures say something about a GPU: Llama-2-7B where there is likely room for it, a billion parameters elsewhere;
 * software adapters would take hours for either.
 */
export function defaultShape({ caps, maxBufferBytes }: Pick<ProbedGpu, 'caps' | 'maxBufferBytes'>): string {
  if (caps.software) return 'tiny';
  return maxBufferBytes >= largeBufferBytes ? 'llama-2-7b' : '1b';
}

/** Whether an address's query says which shape to measure. */
export function namesShape(query: string): boolean {
  return Object.hasOwn(benchShapes, new URLSearchParams(query).get('shape') ?? '');
}

/** `suites=…&shape=…&schemes=…&contexts=…&samples=…`, lists separated by commas. */
export function requestQuery({ suites, shape, schemes, contexts, samples }: BenchRequest): string {
  const lists = { suites, shape: [shape], schemes, contexts, samples: [samples] };
  return new URLSearchParams(
    Object.entries(lists).map(([name, values]) => [name, values.join(',')]),
  ).toString();
}

function isScheme(name: string): boolean {
  try {
    parseScheme(name);
    return true;
  } catch {
    return false;
  }
}

/** Schemes to choose from: the usual ones, and what the address names besides, such as `mergequant-a4-kv16`. */
export function offeredSchemes(query: string): readonly string[] {
  return [...new Set([...defaultSchemes, ...requestFromQuery(query).schemes])];
}

/** The request in an address's query; what it leaves out or says wrongly is the default's. */
export function requestFromQuery(query: string): BenchRequest {
  const parameters = new URLSearchParams(query);
  const list = (name: string) => parameters.get(name)?.split(',').filter(Boolean) ?? [];
  const suites = list('suites').filter((name): name is SuiteName =>
    suiteNames.some((known) => known === name),
  );
  const schemes = list('schemes').filter(isScheme);
  const contexts = list('contexts')
    .map(Number)
    .filter((value) => Number.isInteger(value) && value >= 0);
  const samples = Number(parameters.get('samples'));
  const shape = parameters.get('shape') ?? '';
  return {
    suites: suites.length > 0 ? suites : defaultRequest.suites,
    shape: namesShape(query) ? shape : defaultRequest.shape,
    schemes: schemes.length > 0 ? schemes : defaultRequest.schemes,
    contexts: contexts.length > 0 ? contexts : defaultRequest.contexts,
    samples: Number.isInteger(samples) && samples >= 1 && samples <= 100 ? samples : defaultRequest.samples,
  };
}
