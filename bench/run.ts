/** Runs suites on one GPU and gathers what they measured. Works in Node and in a page's worker alike. */
import type { Gpu } from '../src/gpu/gpu';
import { BenchContext, type BenchListener } from './bench-context';
import { buildId } from './build-id';
import {
  adapterName,
  type BenchFile,
  type BenchRequest,
  BenchRequestError,
  type Runtime,
  type SuiteName,
  type SuiteResult,
  suiteNames,
} from './figures';
import { parseScheme, shapeOf } from './shapes';
import { type ModelSource, runDemo, runLoad } from './suites/artifact';
import { runCeiling } from './suites/ceiling';
import { runDecode } from './suites/decode';
import { runKernels } from './suites/kernels';
import { runLayer } from './suites/layer';
import { runPersistent } from './suites/persistent';
import { runQuantStep } from './suites/quant-step';

export interface BenchOptions extends BenchListener {
  readonly runtime: Runtime;
  /** For the suites `load` and `demo`. */
  readonly model: ModelSource | null;
  readonly signal?: AbortSignal;
  /** Overrides the name that the platform gives the adapter. */
  readonly adapterName?: string;
}

const suites: Readonly<Record<SuiteName, (bench: BenchContext, model: ModelSource | null) => Promise<void>>> =
  {
    ceiling: runCeiling,
    kernels: runKernels,
    'quant-step': runQuantStep,
    layer: runLayer,
    decode: runDecode,
    persistent: runPersistent,
    load: runLoad,
    demo: runDemo,
  };

/**
 * Runs the suites in order. One that fails says so in its result and does not keep the others from running.
 * @throws BenchRequestError; the signal's reason
 */
export async function runBench(gpu: Gpu, request: BenchRequest, options: BenchOptions): Promise<BenchFile> {
  checkRequest(request);
  const results: SuiteResult[] = [];
  for (const suite of request.suites) {
    const bench = new BenchContext(gpu, suite, request, options, options.signal);
    const start = performance.now();
    const error = await suites[suite](bench, options.model).then(() => null, describe);
    options.signal?.throwIfAborted();
    bench.noteClock();
    const { figures, timelines, notes } = bench;
    results.push({ suite, seconds: (performance.now() - start) / 1000, figures, timelines, notes, error });
  }
  return {
    format: 'mergequant-bench',
    version: 1,
    date: new Date().toISOString(),
    build: buildId,
    runtime: options.runtime,
    adapter: gpu.adapter,
    adapterName: options.adapterName || adapterName(gpu.adapter),
    caps: gpu.caps,
    request,
    suites: results,
  };
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

/** @throws BenchRequestError naming the first part that makes no sense */
export function checkRequest({ suites: names, shape, schemes, contexts, samples }: BenchRequest): void {
  shapeOf(shape);
  for (const scheme of schemes) parseScheme(scheme);
  const bad = names.find((name) => !suiteNames.includes(name));
  if (bad !== undefined || names.length === 0) {
    throw new BenchRequestError(`suite: expected ${suiteNames.join(', ')}, got ${bad ?? 'none'}`);
  }
  const context = contexts.find((value) => !Number.isInteger(value) || value < 0);
  if (context !== undefined) {
    throw new BenchRequestError(`context: expected whole numbers from 0, got ${context}`);
  }
  if (!Number.isInteger(samples) || samples < 1 || samples > 1000) {
    throw new BenchRequestError(`samples: expected a whole number from 1 to 1000, got ${samples}`);
  }
}
