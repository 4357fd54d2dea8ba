/** Runs rows of an evaluation one after the other over one set of test windows. Node only. */
import { readFile } from 'node:fs/promises';
import type { ChatTokenizer } from '../tokenizer';
import { CalibrationDataError } from './calibration-data';
import { Checkpoint } from './checkpoint';
import type { EvalRow } from './eval-suites';
import { floatReference, type Loss, measureMethod, type Reference } from './evaluate';
import { InjectedCheckpoint } from './inject';
import { parseTokenizer, readCalibration, readTokenizerFiles } from './prepare-inputs';
import { methodOf, type PrepareOptions, prepareDefaults } from './prepare-options';
import type { Method } from './quantize-layer';
import { RotatedCheckpoint, type WeightSource } from './rotate';
import { keepFloat } from './rtn';

export interface EvalOptions {
  readonly checkpoint: string;
  readonly text: readonly string[];
  readonly calibration: readonly string[];
  readonly samples: number;
  /** Tokens per test window, BOS included. */
  readonly window: number;
  readonly maxWindows?: number;
}

/** One row measured with one calibration seed. */
export interface EvalResult extends Loss {
  readonly label: string;
  readonly seed: number;
  /** Perplexity over the float model's. */
  readonly ratio: number;
}

export interface FloatResult {
  readonly ppl: number;
  readonly windows: number;
  readonly tokens: number;
  /** Largest ratio of the strongest to the median channel over layers, by site. */
  readonly outlierRatios: Reference['outlierRatios'];
}

/** Consecutive windows of the texts, each behind a BOS; with `maxWindows`, evenly spaced ones. */
export async function readWindows(tokenizer: ChatTokenizer, options: EvalOptions): Promise<number[][]> {
  const texts = await Promise.all(options.text.map((file) => readFile(file, 'utf8')));
  const ids = texts.flatMap((text) => tokenizer.encodeText(text, { addBos: false }));
  const start = tokenizer.bosTokenId === null ? [] : [tokenizer.bosTokenId];
  const body = options.window - start.length;
  const total = Math.ceil(ids.length / body);
  const count = Math.min(total, options.maxWindows ?? total);
  const windows = Array.from({ length: count }, (_, i) => {
    const at = Math.floor((i * total) / count) * body;
    return [...start, ...ids.slice(at, at + body)];
  }).filter(({ length }) => length > 1);
  if (windows.length === 0) {
    throw new CalibrationDataError(
      `${options.text.join(', ')}: expected at least one token of test text, found none`,
    );
  }
  return windows;
}

function rowMethod(row: EvalRow, options: PrepareOptions, source: WeightSource): Method {
  const method = methodOf(options, source.config, true);
  if (row.float === 'weights') return { ...method, quantizeWeights: keepFloat };
  return row.float === 'activations' ? { ...method, floatActivations: true } : method;
}

/** Everything that the rows of one process share. */
export class EvalRun {
  private constructor(
    readonly checkpoint: Checkpoint,
    readonly tokenizer: ChatTokenizer,
    readonly windows: number[][],
    readonly reference: Reference,
    readonly options: EvalOptions,
  ) {}

  /** Reads the windows and runs the float model over them. @throws FormatError, CalibrationDataError */
  static async create(options: EvalOptions): Promise<EvalRun> {
    const checkpoint = await Checkpoint.open(options.checkpoint);
    const tokenizer = parseTokenizer(await readTokenizerFiles(options.checkpoint));
    const windows = await readWindows(tokenizer, options);
    return new EvalRun(checkpoint, tokenizer, windows, await floatReference(checkpoint, windows), options);
  }

  float(): FloatResult {
    const { ppl, outlierRatios } = this.reference;
    const tokens = this.windows.reduce((sum, { length }) => sum + length - 1, 0);
    return { ppl, windows: this.windows.length, tokens, outlierRatios };
  }

  /** Quantizes with one calibration seed and measures. @throws Error when an injection changed the float model */
  async row(row: EvalRow, seed: number): Promise<EvalResult> {
    const { calibration, samples } = this.options;
    const base = { checkpoint: this.options.checkpoint, out: '', calibration, samples, seed };
    const options: PrepareOptions = { ...prepareDefaults, ...base, ...row.options };
    let source: WeightSource = this.checkpoint;
    if (row.inject) source = new InjectedCheckpoint(source, row.inject, 1);
    if (options.hadamard) source = new RotatedCheckpoint(this.checkpoint, seed);
    const method = rowMethod(row, options, source);
    const changed = source !== this.checkpoint;
    const reference = changed ? await this.#changedReference(source, method, row.label) : this.reference;
    const set = await readCalibration(options, this.tokenizer, source);
    const loss = await measureMethod(source, set!, options, method, reference);
    return { label: row.label, seed, ratio: loss.ppl / this.reference.ppl, ...loss };
  }

  /** The changed checkpoint's own float run; it must be the same model. */
  async #changedReference(source: WeightSource, method: Method, label: string): Promise<Reference> {
    const reference = await floatReference(source, this.windows, method.hadamard);
    const drift = Math.abs(reference.ppl / this.reference.ppl - 1);
    if (!(drift < 1e-3)) {
      throw new Error(
        `${label}: expected the float model's perplexity ${this.reference.ppl}, found ${reference.ppl}`,
      );
    }
    return reference;
  }

  close(): Promise<void> {
    return this.checkpoint.close();
  }
}
