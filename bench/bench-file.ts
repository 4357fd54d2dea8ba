/** Validates a stored result before anything is computed from it. */
import * as v from 'valibot';
import type { GpuCaps } from '../src/gpu/gpu';
import { type BenchFile, suiteNames } from './figures';

/** Not a benchmark result, or one of another version. Names the file and the place. */
export class BenchFileError extends Error {
  override readonly name = 'BenchFileError';
}

const finite = v.pipe(v.number(), v.finite());

const figure = v.object({
  id: v.string(),
  unit: v.picklist(['us', 'ms', 'GB/s', 'MB/s', 'TOPS', 'tok/s', 'bytes', 'dispatches', 'submits', '%', 'x']),
  better: v.picklist(['higher', 'lower', 'none']),
  value: v.object({ median: finite, least: finite, most: finite, deviation: finite, samples: finite }),
  clock: v.picklist(['gpu', 'wall', 'count']),
});

const suite = v.object({
  suite: v.picklist(suiteNames),
  seconds: finite,
  figures: v.array(figure),
  timelines: v.array(v.object({ id: v.string(), ops: v.array(v.object({ label: v.string(), us: finite })) })),
  notes: v.array(v.string()),
  error: v.nullable(v.string()),
});

const schema = v.object({
  format: v.literal('mergequant-bench'),
  version: v.literal(1),
  date: v.pipe(v.string(), v.isoTimestamp()),
  build: v.optional(v.object({ version: v.string(), commit: v.string(), isDirty: v.boolean() })),
  runtime: v.object({ kind: v.picklist(['node', 'browser']), name: v.string() }),
  adapter: v.object({
    vendor: v.string(),
    architecture: v.string(),
    device: v.string(),
    description: v.string(),
  }),
  adapterName: v.pipe(v.string(), v.minLength(1)),
  // Kept as it came: later versions of the engine know further capabilities.
  caps: v.custom<GpuCaps>((value) => typeof value === 'object' && value !== null, 'the capabilities'),
  request: v.object({
    suites: v.array(v.picklist(suiteNames)),
    shape: v.string(),
    schemes: v.array(v.string()),
    contexts: v.array(finite),
    samples: finite,
  }),
  suites: v.array(suite),
});

/** @throws BenchFileError */
export function parseBenchFile(text: string, name: string): BenchFile {
  return parseStored(schema, text, name);
}

/** What a file of this repository holds, if it is what `schema` says. @throws BenchFileError */
export function parseStored<T>(schema: v.GenericSchema<unknown, T>, text: string, name: string): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new BenchFileError(`${name}: expected JSON`, { cause });
  }
  const parsed = v.safeParse(schema, json);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new BenchFileError(`${name}: at ${v.getDotPath(issue) ?? 'the top'}: ${issue.message}`);
  }
  return parsed.output;
}
