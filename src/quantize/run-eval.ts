/** Runs rows of an evaluation one after the other over one set of test windows. Node only. */
import { readFile } from 'node:fs/promises';
import { hasPrefix } from '../format/prefix';
import type { ChatTokenizer } from '../tokenizer';
import { CalibrationDataError, type CalibrationSet } from './calibration-data';
import { Checkpoint } from './checkpoint';
import { ConcentratedCheckpoint, energyAxes } from './concentrate';
import type { EvalRow, Injection } from './eval-suites';
import { type Loss, measureMethod } from './evaluate';
import { PrefixError, PrefixedCheckpoint, sharedPrefix } from './float-prefix';
import { floatReference, type Reference } from './float-reference';
import { InjectedCheckpoint } from './inject';
import type { LayerDevice } from './layer-device';
import { scoreHidden } from './logit-scores';
import type { Matrix } from './matrix';
import { parseTokenizer, readCalibration, readTokenizerFiles } from './prepare-inputs';
import { checkOptions, methodOf, type PrepareOptions, prepareDefaults } from './prepare-options';
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
  /** Runs the heavy parts; default: the host. */
  readonly device?: LayerDevice | undefined;
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

/** Compensation trains where the rest is done. */
function onDevice(options: EvalRow['options'], device?: LayerDevice): EvalRow['options'] {
  const { compensation } = options;
  if (!device || !compensation) return options;
  return { ...options, compensation: { settings: { ...compensation.settings, device: 'webgpu' } } };
}

/** Calibration sequences that the axes of `concentrate` are taken from. */
const axesSamples = 8;

function rowMethod(row: EvalRow, options: PrepareOptions, source: WeightSource): Method {
  const method = methodOf(options, source.config, true);
  if (row.float === 'weights') return { ...method, quantizeWeights: keepFloat };
  return row.float === 'activations' ? { ...method, floatActivations: true } : method;
}

/** Everything that the rows of one process share. */
export class EvalRun {
  #axes: Promise<Matrix> | null = null;

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
    const reference = await floatReference(checkpoint, windows, null, options.device);
    return new EvalRun(checkpoint, tokenizer, windows, reference, options);
  }

  float(): FloatResult {
    const { ppl, outlierRatios } = this.reference;
    const tokens = this.windows.reduce((sum, { length }) => sum + length - 1, 0);
    return { ppl, windows: this.windows.length, tokens, outlierRatios };
  }

  /** Quantizes with one calibration seed and measures. @throws Error when an injection changed the float model */
  async row(row: EvalRow, seed: number): Promise<EvalResult> {
    const { calibration, samples, device } = this.options;
    const own = { calibration, samples, seed, ...(device && { device }) };
    const base = { checkpoint: this.options.checkpoint, out: '', ...own };
    const options: PrepareOptions = { ...prepareDefaults, ...base, ...onDevice(row.options, device) };
    checkOptions(options, this.checkpoint.config.numLayers);
    const injected = row.inject ? await this.#injected(row.inject) : this.checkpoint;
    const source = options.hadamard ? new RotatedCheckpoint(injected, seed) : injected;
    const method = rowMethod(row, options, source);
    const changed = source !== this.checkpoint;
    const reference = changed ? await this.#changedReference(source, method, row.label) : this.reference;
    const set = await readCalibration(options, this.tokenizer, source);
    const measured = this.#prefixed(source, set!, options, method);
    const loss = await measureMethod(measured, set!, options, method, reference);
    return { label: row.label, seed, ratio: loss.ppl / this.reference.ppl, ...loss };
  }

  /** With the float prefix that the row asks for. @throws PrefixError when sequences or windows do not share it */
  #prefixed(
    source: WeightSource,
    { sequences }: CalibrationSet,
    { prefix }: PrepareOptions,
    { hadamard }: Method,
  ): WeightSource {
    if (!prefix) return source;
    const ids = sharedPrefix(sequences, prefix);
    if (!this.windows.every((window) => hasPrefix(window, ids))) {
      throw new PrefixError(`prefix: expected every test window to begin with tokens ${ids.join(' ')}`);
    }
    return new PrefixedCheckpoint(source, ids, hadamard);
  }

  async #injected(injection: Injection): Promise<WeightSource> {
    if (injection.kind === 'gamma') return new InjectedCheckpoint(this.checkpoint, injection, 1);
    const { calibration } = this.options;
    const few = { ...prepareDefaults, checkpoint: '', out: '', calibration, samples: axesSamples };
    this.#axes ??= readCalibration(few, this.tokenizer, this.checkpoint).then((set) =>
      energyAxes(this.checkpoint, set!.sequences),
    );
    return new ConcentratedCheckpoint(this.checkpoint, await this.#axes);
  }

  /** The changed checkpoint must be the same model: one window is run, which also gives the layers' outputs in its basis. */
  async #changedReference(source: WeightSource, method: Method, label: string): Promise<Reference> {
    const own = await floatReference(source, this.windows.slice(0, 1), method.hadamard, this.options.device);
    const { ppl: expected } = await scoreHidden(
      this.checkpoint,
      this.#first(),
      this.#first().hidden,
      this.options.device,
    );
    if (!(Math.abs(own.ppl / expected - 1) < 1e-3)) {
      throw new Error(
        `${label}: expected the float model's perplexity ${expected} on the first window, found ${own.ppl}`,
      );
    }
    return { ...this.reference, trail: own.trail, outlierRatios: own.outlierRatios };
  }

  #first(): Pick<Reference, 'source' | 'windows' | 'hidden'> {
    const { source, windows, hidden } = this.reference;
    return { source, windows: windows.slice(0, 1), hidden: hidden.slice(0, 1) };
  }

  close(): Promise<void> {
    return this.checkpoint.close();
  }
}
