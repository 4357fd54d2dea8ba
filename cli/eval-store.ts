/** Results of `mergequant eval` on disk: one file of JSON lines a suite, so that an interrupted run goes on. */
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import type { EvalResult, FloatResult } from '../src/quantize/run-eval';

/** What a suite's numbers depend on; results of other settings are another table. */
export interface EvalSettings {
  readonly suite: string;
  readonly checkpoint: string;
  readonly text: readonly string[];
  readonly calibration: readonly string[];
  readonly window: number;
  readonly maxWindows: number | null;
  readonly samples: number;
  readonly device: string;
}

/** First line of a file. */
export interface EvalHeader {
  readonly settings: EvalSettings;
  readonly command: string;
  readonly machine: string;
  readonly float: FloatResult;
}

/** A results file holds something else than what was asked for. */
export class StoredResultsError extends Error {
  override readonly name = 'StoredResultsError';
}

/** A file's lines. What a killed run left of one behind the last line break is removed: its row will be measured again. */
function wholeLines(file: string): string[] {
  const bytes = readFileSync(file);
  const end = bytes.lastIndexOf(0x0a) + 1;
  if (end < bytes.length) truncateSync(file, end);
  return bytes.subarray(0, end).toString('utf8').split('\n');
}

export class EvalStore {
  #header: EvalHeader | null = null;
  readonly results: EvalResult[] = [];

  /** @param file null keeps everything in memory. @throws StoredResultsError for results of other settings */
  constructor(
    readonly file: string | null,
    settings: EvalSettings | null = null,
  ) {
    if (!file || !existsSync(file)) return;
    const lines = wholeLines(file);
    for (const [i, line] of lines.entries()) if (line) this.#read(line, `${file}: line ${i + 1}`);
    const [expected, found] = [settings, this.#header?.settings].map((value) => JSON.stringify(value));
    if (settings && found !== expected) {
      throw new StoredResultsError(
        `${file}: expected results of ${expected}, found ${found}; move the file away or repeat its options`,
      );
    }
  }

  /** @throws StoredResultsError where no run has written anything yet */
  get header(): EvalHeader {
    if (this.#header) return this.#header;
    throw new StoredResultsError(`${this.file}: expected a header, found none`);
  }

  has(label: string, seed: number): boolean {
    return this.results.some((result) => result.label === label && result.seed === seed);
  }

  start(header: EvalHeader): void {
    if (!this.#header) this.#append(JSON.stringify({ header }));
  }

  add(result: EvalResult): void {
    this.#append(JSON.stringify({ result }));
  }

  #append(line: string): void {
    if (this.file) appendFileSync(this.file, `${line}\n`);
    this.#take(line);
  }

  #read(line: string, place: string): void {
    try {
      this.#take(line);
    } catch (cause) {
      throw new StoredResultsError(`${place}: expected JSON, found ${(cause as Error).message}`, { cause });
    }
  }

  #take(line: string): void {
    const { header, result } = JSON.parse(line) as { header?: EvalHeader; result?: EvalResult };
    if (header) this.#header = header;
    if (result) this.results.push(result);
  }
}

/** `<suite>.jsonl`, or `<suite>-<device>.jsonl` for what was not quantized on the host. */
function fileName(suite: string, device: string): string {
  return `${suite}${device === 'host' ? '' : `-${device}`}.jsonl`;
}

/** @param folder made when it is not there; undefined keeps results in memory. @throws StoredResultsError */
export function openStore(folder: string | undefined, settings: EvalSettings): EvalStore {
  if (folder === undefined) return new EvalStore(null);
  mkdirSync(folder, { recursive: true });
  return new EvalStore(join(folder, fileName(settings.suite, settings.device)), settings);
}

/** Every suite kept in a folder, in the given order of names, the host's before the GPU's. */
export function storedSuites(folder: string, order: readonly string[]): EvalStore[] {
  const files = new Set(readdirSync(folder));
  return order
    .flatMap((suite) => ['host', 'gpu'].map((device) => fileName(suite, device)))
    .filter((file) => files.has(file))
    .map((file) => new EvalStore(join(folder, file)));
}
