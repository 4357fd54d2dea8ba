/** How long recorded GPU work takes: by timestamp queries where the device has them, by the CPU's clock otherwise. */
import type { Gpu } from '../src/gpu/gpu';
import { ClockHold } from './clock-hold';
import { type Summary, summarize } from './statistics';
import { type PendingTimes, submitTimed } from './timestamps';

export type Encode = (pass: GPUComputePassEncoder) => void;

export interface TimingOptions {
  readonly samples: number;
  /**
   * Work recorded until a sample is this long, by repeating it within one pass: browsers round timestamps to 0.1 ms.
   * Default 5.
   */
  readonly sampleMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** Told the clock during each sample, as a share of the highest one seen on the device. */
  readonly onClock?: (share: number) => void;
}

export interface Timed {
  /** Microseconds of one execution of what was recorded. */
  readonly us: Summary;
  /** Of each sample, in order: sample i of candidates timed together was taken within the same few milliseconds. */
  readonly each: readonly number[];
  readonly clock: 'gpu' | 'wall';
}

const defaultSampleMs = 5;
const mostRepeats = 4096;
/** A pass that takes this long by the CPU's clock is long enough, whatever the GPU's clock says. */
const longestSampleMs = 200;
/** Samples whose command buffers are queued ahead, so that the GPU never idles between two of them. */
const queuedSamples = 2;

/**
 * Runs `encode` until its time is known. Repetitions in one pass depend on each other as far as their buffers overlap.
 * @throws Error with the GPU's message when the work is invalid; the signal's reason
 */
export async function timePass(gpu: Gpu, encode: Encode, options: TimingOptions): Promise<Timed> {
  const [timed] = await timePasses(gpu, [encode], options);
  return timed!;
}

/**
 * Times several candidates in turn, a sample of each in every round and another one first in the next, so that whatever
 * changes meanwhile changes all of them. Before each round the GPU's clock is held up by work of its own; see {@link ClockHold}.
 * By the GPU's clock, each sample follows an execution that does not count: weights that something else has driven out of
 * caches and address translation read up to 7 % slower (docs/LOG.md), and a token follows another one.
 * @throws Error with the GPU's message when the work is invalid; the signal's reason
 */
export async function timePasses(
  gpu: Gpu,
  candidates: readonly Encode[],
  options: TimingOptions,
): Promise<Timed[]> {
  gpu.device.pushErrorScope('validation');
  let samples: number[][];
  try {
    samples = await (hasGpuClock(gpu) ? sampleByTimestamps : sampleByWall)(gpu, candidates, options);
  } finally {
    const error = await gpu.device.popErrorScope();
    // biome-ignore lint/correctness/noUnsafeFinally: the time of work that the GPU refused is worthless
    if (error) throw new Error(`timed work is invalid: ${error.message}`);
  }
  const clock = hasGpuClock(gpu) ? 'gpu' : 'wall';
  return samples.map((each) => ({ us: summarize(each), each, clock }));
}

/** A software adapter's timestamps are the CPU's clock with detours. */
export function hasGpuClock({ caps }: Gpu): boolean {
  return caps.timestampQuery && !caps.software;
}

/** Microseconds of each sample of each candidate. */
async function sampleByTimestamps(
  gpu: Gpu,
  candidates: readonly Encode[],
  { samples, sampleMs = defaultSampleMs, signal, onClock }: TimingOptions,
): Promise<number[][]> {
  const hold = await ClockHold.of(gpu);
  await hold.raise();
  const timeOnce = async (encodes: readonly Encode[]) => {
    const [held, ...us] = await submitTimed(gpu.device, [hold.encode, ...encodes]).read();
    hold.share(held!);
    return us;
  };
  const repeats = await findRepeats(candidates, sampleMs, timeOnce);
  const passes = candidates.map((encode, i) => repeated(encode, repeats[i]!));
  const found: number[][] = candidates.map(() => []);
  const pending: { readonly order: readonly number[]; readonly times: PendingTimes }[] = [];
  const takeOldest = async () => {
    const { order, times } = pending.shift()!;
    const [held, ...us] = await times.read();
    onClock?.(hold.share(held!));
    order.forEach((i, place) => {
      found[i]!.push(us[2 * place + 1]! / repeats[i]!);
    });
  };
  await hold.raise();
  for (let sample = 0; sample < samples; sample++) {
    if (signal?.aborted) break;
    const order = orderOf(sample, passes.length);
    const warmed = order.flatMap((i) => [candidates[i]!, passes[i]!]); // of each pair the second counts
    const times = submitTimed(gpu.device, [hold.encode, ...warmed]);
    pending.push({ order, times });
    if (pending.length > queuedSamples) await takeOldest();
  }
  while (pending.length > 0) await takeOldest();
  signal?.throwIfAborted();
  return found;
}

async function sampleByWall(
  gpu: Gpu,
  candidates: readonly Encode[],
  { samples, sampleMs = defaultSampleMs, signal }: TimingOptions,
): Promise<number[][]> {
  const timeOnce = async (encodes: readonly Encode[]) => {
    const us: number[] = [];
    for (const encode of encodes) us.push(await wallUs(gpu, encode));
    return us;
  };
  const repeats = await findRepeats(candidates, sampleMs, timeOnce);
  const passes = candidates.map((encode, i) => repeated(encode, repeats[i]!));
  const found: number[][] = candidates.map(() => []);
  for (let sample = 0; sample < samples; sample++) {
    signal?.throwIfAborted();
    const order = orderOf(sample, passes.length);
    const us = await timeOnce(order.map((i) => passes[i]!));
    order.forEach((i, place) => {
      found[i]!.push(us[place]! / repeats[i]!);
    });
  }
  return found;
}

/** Which candidate comes when in a round: each begins in turn. */
function orderOf(round: number, candidates: number): number[] {
  return Array.from({ length: candidates }, (_, place) => (place + round) % candidates);
}

function repeated(encode: Encode, repeats: number): Encode {
  return (pass) => {
    for (let i = 0; i < repeats; i++) encode(pass);
  };
}

/** Repetitions of each candidate for a sample of `sampleMs`, found by growing them. */
async function findRepeats(
  candidates: readonly Encode[],
  sampleMs: number,
  timeOnce: (encodes: readonly Encode[]) => Promise<number[]>,
): Promise<number[]> {
  let repeats = candidates.map(() => 1);
  for (;;) {
    const before = performance.now();
    const us = await timeOnce(candidates.map((encode, i) => repeated(encode, repeats[i]!)));
    const isLong = performance.now() - before >= longestSampleMs * candidates.length;
    const wanted = repeats.map((count, i) => {
      if (us[i]! >= 1000 * sampleMs) return count;
      const needed = Math.ceil((count * 1000 * sampleMs) / Math.max(us[i]!, 0.1));
      return Math.min(mostRepeats, 8 * count, needed);
    });
    if (isLong || wanted.every((count, i) => count <= repeats[i]!)) return repeats;
    repeats = wanted;
  }
}

/** Microseconds of one submitted pass by the CPU's clock. */
async function wallUs({ device }: Gpu, encode: Encode): Promise<number> {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  encode(pass);
  pass.end();
  const start = performance.now();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
  return 1000 * (performance.now() - start);
}

/** Milliseconds of `work`, `samples` times after one warm-up. */
export async function timeWall(
  work: () => Promise<void>,
  { samples, signal }: Pick<TimingOptions, 'samples' | 'signal'>,
): Promise<Summary> {
  await work();
  const values: number[] = [];
  for (let sample = 0; sample < samples; sample++) {
    signal?.throwIfAborted();
    const start = performance.now();
    await work();
    values.push(performance.now() - start);
  }
  return summarize(values);
}
