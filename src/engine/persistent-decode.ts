/**
 * Decoding with the whole-token kernel: opt-in, tried on the loaded model before it is used, and left for good when its
 * workgroups once waited too long for each other.
 */
import { ShaderError } from '../gpu/pipelines';
import type { KernelContext, Op } from '../kernels/op';
import { encodeOp } from '../kernels/op';
import { type PersistentTuning, stoppedWord } from '../kernels/persistent-token';
import {
  buildPersistentLayers,
  type PersistentLayers,
  PersistentUnfitError,
} from '../model/forward-persistent';
import type { Scratch } from '../model/scratch';
import type { ModelWeights } from '../model/weights';

/** Whether tokens are decoded in one dispatch, and if not, why. */
export type PersistentState =
  | { readonly isOn: true; readonly groups: number; readonly layers: PersistentLayers }
  | { readonly isOn: false; readonly reason: string };

/** The same in words, for people. */
export function describePersistent(state: PersistentState): string {
  if (state.isOn) return `all layers of a token in one dispatch of ${state.groups} workgroups`;
  return `the ordinary kernels decode: ${state.reason}`;
}

/** Workgroups to try: as many as a GPU keeps resident is best, and that cannot be asked. */
const groupCounts = [264, 132, 128, 114, 108, 96, 84, 72, 64, 48, 36, 32, 24, 16, 8] as const;
/** Where a count is timed: far enough for attention to have work. Against the ordinary operations also at the context's end. */
const timedPosition = 512;
/** Tokens that a count is timed with. */
const timedTokens = 8;
/** Comparisons with the ordinary operations; the best time of each counts. */
const comparedRounds = 3;
/** A count that is this much slower than the best ends the search: fewer only get slower. */
const hopeless = 1.3;

/** What of a model is needed to try the kernel. */
interface Model {
  readonly context: KernelContext;
  readonly weights: ModelWeights;
  readonly scratch: Scratch;
  /** The ordinary operations of the layers for one token. */
  readonly ordinary: readonly Op[];
}

/**
 * Builds the kernel and holds it against the ordinary operations, at several positions, bit for bit; of the workgroup counts
 * that pass, the fastest is taken, if it is faster than the ordinary operations. Leaves nonsense in the KV cache.
 * @param tuning `groups` takes that count where its results are equal, however slow, also on a software adapter
 */
export async function tryPersistentDecode(model: Model, tuning: PersistentTuning): Promise<PersistentState> {
  if (model.context.gpu.caps.software && tuning.groups === undefined) {
    return { isOn: false, reason: 'a software adapter does not run workgroups at the same time' };
  }
  try {
    const counts = tuning.groups === undefined ? groupCounts : [tuning.groups];
    const found = await choose(model, tuning, counts);
    if (found.state.isOn || !found.differs || tuning.fuses !== undefined) return found.state;
    const other = await choose(model, { ...tuning, fuses: model.context.gpu.caps.software }, counts);
    return other.state.isOn ? other.state : found.state;
  } catch (error) {
    if (!(error instanceof PersistentUnfitError || error instanceof ShaderError)) throw error;
    return { isOn: false, reason: error.message.split('\n')[0]! };
  }
}

/** What came of a kernel on several workgroup counts. */
interface Choice {
  readonly state: PersistentState;
  /** Some count ran to its end with other bits. */
  readonly differs: boolean;
}

async function choose(model: Model, tuning: PersistentTuning, counts: readonly number[]): Promise<Choice> {
  const { context, weights, scratch } = model;
  let best: { readonly state: PersistentState & { readonly isOn: true }; readonly ms: number } | null = null;
  let reason = 'no workgroup count was tried';
  let differs = false;
  const built = await buildPersistentLayers(context, weights, scratch, tuning);
  for (const groups of counts) {
    const layers = built.withGroups(groups);
    const difference = await firstDifference(model, layers);
    if (difference !== null) {
      reason = `${groups} workgroups: ${difference}`;
      differs ||= difference !== stuck;
      layers.restart();
      continue;
    }
    const ms = await timeTokens(model, layers.ops);
    if (best && ms > hopeless * best.ms) break;
    if (!best || ms < best.ms) best = { state: { isOn: true, groups, layers }, ms };
  }
  if (!best) return { state: { isOn: false, reason }, differs };
  return { state: tuning.groups === undefined ? await ifFaster(model, best.state) : best.state, differs };
}

/** The kernel against the ordinary operations, in turn, because a GPU's clock changes: it has to win early and late. */
async function ifFaster(
  model: Model,
  state: PersistentState & { readonly isOn: true },
): Promise<PersistentState> {
  const last = model.scratch.contextLength - 1;
  for (const position of new Set([Math.min(timedPosition, last), last])) {
    let [ms, ordinaryMs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let round = 0; round < comparedRounds; round++) {
      ms = Math.min(ms, await timeTokens(model, state.layers.ops, position));
      ordinaryMs = Math.min(ordinaryMs, await timeTokens(model, model.ordinary, position));
    }
    if (ms < ordinaryMs) continue;
    const perToken = (of: number) => `${(of / timedTokens).toFixed(2)} ms`;
    const times = `${perToken(ms)} in one dispatch, ${perToken(ordinaryMs)} in many`;
    return { isOn: false, reason: `a token at position ${position} takes ${times}` };
  }
  return state;
}

const stuck = 'they waited too long for each other: not all run at the same time';

/** Null when the kernel leaves the ordinary operations' residual stream at every tried position. */
async function firstDifference(model: Model, layers: PersistentLayers): Promise<string | null> {
  const { scratch } = model;
  for (const position of triedPositions(scratch.contextLength)) {
    const expected = await residualAfter(model, model.ordinary, position);
    const found = await residualAfter(model, layers.ops, position);
    if (await hasStopped(model.context.gpu.device, layers)) {
      return stuck;
    }
    const differing = found.reduce((count, word, k) => count + Number(word !== expected[k]), 0);
    if (differing > 0) {
      return `${differing} of ${found.length} floats differ from the ordinary kernels' at position ${position}`;
    }
  }
  return null;
}

/** The first ones in order, so that there are keys to read; then the edges of attention's pieces and the last one. */
function triedPositions(contextLength: number): number[] {
  return [0, 1, 2, 3, 63, 64, 255, 256, 300, contextLength - 1].filter(
    (position) => position < contextLength,
  );
}

async function residualAfter(
  { context: { gpu }, weights, scratch }: Model,
  ops: readonly Op[],
  position: number,
): Promise<Uint32Array> {
  const { hiddenSize, vocabSize } = weights.layout.config;
  gpu.device.queue.writeBuffer(scratch.ids, 0, new Uint32Array([(7919 * position + 13) % vocabSize]));
  gpu.device.queue.writeBuffer(scratch.step, 0, new Uint32Array([1, position, 0, 0]));
  submit(gpu.device, ops, 1);
  return readWords(gpu.device, scratch.x, hiddenSize);
}

/** Milliseconds of a few tokens at `position`, or where the context ends before. */
async function timeTokens(
  { context: { gpu }, scratch }: Model,
  ops: readonly Op[],
  wanted = timedPosition,
): Promise<number> {
  const position = Math.min(wanted, scratch.contextLength - 1);
  gpu.device.queue.writeBuffer(scratch.step, 0, new Uint32Array([1, position, 0, 0]));
  submit(gpu.device, ops, timedTokens);
  await gpu.device.queue.onSubmittedWorkDone();
  const start = performance.now();
  submit(gpu.device, ops, timedTokens);
  await gpu.device.queue.onSubmittedWorkDone();
  return performance.now() - start;
}

function submit(device: GPUDevice, ops: readonly Op[], times: number): void {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (let i = 0; i < times; i++) for (const op of ops) encodeOp(pass, op, 1);
  pass.end();
  device.queue.submit([encoder.finish()]);
}

/** Whether the kernel has given up: every result since then is NaN. */
export async function hasStopped(device: GPUDevice, { crossing }: PersistentLayers): Promise<boolean> {
  const words = await readWords(device, crossing, stoppedWord + 1);
  return words[stoppedWord] !== 0;
}

async function readWords(device: GPUDevice, buffer: GPUBuffer, words: number): Promise<Uint32Array> {
  const staging = device.createBuffer({ size: 4 * words, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
  try {
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, 4 * words);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(0x1);
    return new Uint32Array(staging.getMappedRange().slice(0));
  } finally {
    staging.destroy();
  }
}
