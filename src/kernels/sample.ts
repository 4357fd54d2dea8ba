import advance from '../../shaders/sample_advance.wgsl?raw';
import draw from '../../shaders/sample_draw.wgsl?raw';
import filter from '../../shaders/sample_filter.wgsl?raw';
import histogram from '../../shaders/sample_histogram.wgsl?raw';
import order from '../../shaders/sample_order.wgsl?raw';
import penalize from '../../shaders/sample_penalize.wgsl?raw';
import split from '../../shaders/sample_split.wgsl?raw';
import type { BufferArena } from '../gpu/arena';
import { type DecodeState, requireBytes, requireDecodeState, tokenGroups } from './argmax';
import { type KernelContext, makeOp, type Op } from './op';

/** How a token is drawn. Order: penalties, temperature, top-k, top-p, min-p. */
export interface SamplingParameters {
  /** 0 is greedy, and so is anything below 1e-6. */
  readonly temperature: number;
  /** Keep the k most probable tokens, among equals the lowest ids; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set of most probable tokens whose share of the mass reaches p; 1 keeps all. */
  readonly topP: number;
  /** Drop tokens less probable than minP times the most probable; 0 keeps all. */
  readonly minP: number;
  /** Divides positive and multiplies negative logits of every token of prompt and reply; 1 is off. */
  readonly repetitionPenalty: number;
  /** Subtracted once from every token of the reply. */
  readonly presencePenalty: number;
  /** Subtracted per occurrence in the reply. */
  readonly frequencyPenalty: number;
  /** 32-bit unsigned. */
  readonly seed: number;
}

/** A sampling parameter outside its range: names it, what is allowed and what came. */
export class SamplingParameterError extends Error {
  override readonly name = 'SamplingParameterError';
  constructor(
    readonly parameter: keyof SamplingParameters,
    readonly expected: string,
    readonly actual: unknown,
  ) {
    super(`${parameter}: expected ${expected}, got ${String(actual)}`);
  }
}

/** Size of the uniform that {@link encodeSampling} fills. */
export const samplingBytes = 48;

const maxUint32 = 2 ** 32 - 1;
/** Stands for "no limit" in float32 fields; infinities are not portable in WGSL. */
const largestFloat = 3e38;

function validate(p: SamplingParameters): void {
  const check = (name: keyof SamplingParameters, valid: (value: number) => boolean, expected: string) => {
    const value = p[name];
    if (!Number.isFinite(value) || !valid(value)) throw new SamplingParameterError(name, expected, value);
  };
  const isUint32 = (value: number) => Number.isInteger(value) && value >= 0 && value <= maxUint32;
  check('temperature', (value) => value >= 0, 'a number >= 0');
  check('topK', isUint32, 'an integer >= 0');
  check('topP', (value) => value >= 0 && value <= 1, 'a number in [0, 1]');
  check('minP', (value) => value >= 0 && value <= 1, 'a number in [0, 1]');
  check('repetitionPenalty', (value) => value > 0, 'a number > 0');
  check('presencePenalty', () => true, 'a finite number');
  check('frequencyPenalty', () => true, 'a finite number');
  check('seed', isUint32, 'a 32-bit unsigned integer');
}

/** topP as the GPU uses it: p·2³² in [1, 2³² − 1]; 0 when the filter is off. */
export function fixedTopP(topP: number): number {
  return topP >= 1 ? 0 : Math.min(maxUint32, Math.max(1, Math.round(topP * 2 ** 32)));
}

/**
 * The bytes of {@link SampleArgs.sampling} (struct Sampling of sample_filter.wgsl), written once per reply.
 * @throws SamplingParameterError for a value outside its range.
 */
export function encodeSampling(p: SamplingParameters): ArrayBuffer {
  validate(p);
  const isGreedy = p.temperature < 1e-6;
  const isPenalized = p.repetitionPenalty !== 1 || p.presencePenalty !== 0 || p.frequencyPenalty !== 0;
  const view = new DataView(new ArrayBuffer(samplingBytes));
  view.setFloat32(0, isGreedy ? 0 : 1 / p.temperature, true);
  view.setFloat32(4, Math.min(80 * p.temperature, largestFloat), true);
  view.setUint32(8, p.topK, true);
  view.setUint32(12, fixedTopP(p.topP), true);
  view.setFloat32(16, p.minP > 0 ? -Math.log(p.minP) : largestFloat, true);
  view.setFloat32(20, p.repetitionPenalty, true);
  view.setFloat32(24, p.presencePenalty, true);
  view.setFloat32(28, p.frequencyPenalty, true);
  view.setUint32(32, p.seed, true);
  view.setUint32(36, isPenalized ? 1 : 0, true);
  return view.buffer;
}

/** Buffers between the four dispatches of {@link sample}. */
export interface SampleScratch {
  readonly entries: GPUBuffer; // [V] (ordered key of the penalized logit, mass)
  readonly partials: GPUBuffer; // [2 · ⌈V / 1024⌉] (key, index)
  readonly histogram: GPUBuffer; // [769] u32: count, mass low, mass high of 256 bins; number of candidates
  readonly candidates: GPUBuffer; // [V] u32
}

/** 12 bytes per token of the vocabulary, and a little. @throws GpuMemoryError */
export function createSampleScratch(arena: BufferArena, vocabSize: number): SampleScratch {
  const create = (name: string, bytes: number) =>
    arena.create(`sample.${name}`, bytes, { category: 'scratch' });
  return {
    entries: create('entries', 8 * vocabSize),
    partials: create('partials', 16 * tokenGroups(vocabSize)),
    histogram: create('histogram', 4 * 769),
    candidates: create('candidates', 4 * vocabSize),
  };
}

export interface SampleArgs extends DecodeState {
  /** V. */
  readonly vocabSize: number;
  readonly logits: GPUBuffer; // [V] f32, not changed
  /** Uniform of {@link samplingBytes} bytes, see {@link encodeSampling}. */
  readonly sampling: GPUBuffer;
  readonly scratch: SampleScratch;
}

/**
 * Penalties, temperature, top-k, top-p, min-p, a draw, and the state's advance, in four dispatches:
 * penalize (one read of the logits, all workgroups), histogram and split (one read each of the penalized logits, all
 * workgroups; histogram returns at once without top-k and top-p), draw (one workgroup, over the few tokens near the
 * cuts: up to 4 radix passes per filter, up to 8 among equal logits).
 *
 * Filters are exact: see sample_filter.wgsl. Probability mass is summed in integers, the noise of a token depends on
 * (seed, generated, token) alone: same seed and logits, same token, on a given device. Tokens of logit −∞ are never
 * drawn. A NaN logit, or a maximum that is not finite after penalties, yields `noToken` in the history.
 * @throws KernelShapeError
 */
export async function sample(context: KernelContext, args: SampleArgs): Promise<Op[]> {
  const { vocabSize, logits, sampling, step, scratch } = args;
  requireDecodeState('sample', vocabSize, args);
  requireBytes('sample', 'logits', logits, 4 * vocabSize);
  requireBytes('sample', 'sampling', sampling, samplingBytes);
  const groups = tokenGroups(vocabSize);
  const fields = { V: vocabSize, groups, capacity: args.historyCapacity };
  const params = context.arena.uniform('sample.params', fields);
  const { entries, partials, candidates } = scratch;
  const stage = (label: string, source: string, bindings: GPUBuffer[], workgroups: number) =>
    makeOp(context, {
      label,
      source: `${order}\n${filter}\n${source}`,
      bindings,
      grid: () => [workgroups, 1, 1],
    });
  const state = [params, step, args.ids, args.history, args.counts];
  return Promise.all([
    stage(
      'sample_penalize',
      penalize,
      [params, sampling, logits, args.counts, entries, partials, scratch.histogram],
      groups,
    ),
    stage('sample_histogram', histogram, [params, sampling, partials, entries, scratch.histogram], groups),
    stage(
      'sample_split',
      split,
      [params, step, sampling, entries, partials, scratch.histogram, candidates],
      groups,
    ),
    stage(
      'sample_draw',
      `${advance}\n${draw}`,
      [...state, sampling, partials, entries, scratch.histogram, candidates],
      1,
    ),
  ]);
}
