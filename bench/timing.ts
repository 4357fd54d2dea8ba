/** How long recorded GPU work takes: by timestamp queries where the device has them, by the CPU's clock otherwise. */
import type { Gpu } from '../src/gpu/gpu';
import { type Summary, summarize } from './statistics';

export type Encode = (pass: GPUComputePassEncoder) => void;

export interface TimingOptions {
  readonly samples: number;
  /**
   * Work recorded until a sample is this long, by repeating it within one pass: browsers round timestamps to 0.1 ms.
   * Default 5.
   */
  readonly sampleMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Timed {
  /** Microseconds of one execution of what was recorded. */
  readonly us: Summary;
  readonly clock: 'gpu' | 'wall';
}

const defaultSampleMs = 5;
const mostRepeats = 4096;
/** A pass that takes this long by the CPU's clock is long enough, whatever the GPU's clock says. */
const longestSampleMs = 200;
/** Work to run before measuring, so that the GPU's clock has risen. */
const warmUpMs = 40;

/**
 * Runs `encode` until its time is known. Repetitions in one pass depend on each other as far as their buffers overlap.
 * @throws Error with the GPU's message when the work is invalid; the signal's reason
 */
export async function timePass(gpu: Gpu, encode: Encode, options: TimingOptions): Promise<Timed> {
  const { samples, sampleMs = defaultSampleMs, signal } = options;
  gpu.device.pushErrorScope('validation');
  let timed: Timed;
  try {
    await runOnce(gpu, encode, 1);
    const repeats = await calibrate(gpu, encode, sampleMs);
    const values: number[] = [];
    for (let sample = 0; sample < samples; sample++) {
      signal?.throwIfAborted();
      values.push((await runOnce(gpu, encode, repeats)) / repeats);
    }
    timed = { us: summarize(values), clock: hasGpuClock(gpu) ? 'gpu' : 'wall' };
  } finally {
    const error = await gpu.device.popErrorScope();
    // biome-ignore lint/correctness/noUnsafeFinally: the time of work that the GPU refused is worthless
    if (error) throw new Error(`timed work is invalid: ${error.message}`);
  }
  return timed;
}

/** A software adapter's timestamps are the CPU's clock with detours. */
function hasGpuClock({ caps }: Gpu): boolean {
  return caps.timestampQuery && !caps.software;
}

/** Repetitions for a sample of `sampleMs`, found by growing them; what that takes also warms the GPU up. */
async function calibrate(gpu: Gpu, encode: Encode, sampleMs: number): Promise<number> {
  const start = performance.now();
  let repeats = 1;
  for (;;) {
    const before = performance.now();
    const us = await runOnce(gpu, encode, repeats);
    const now = performance.now();
    const longEnough = us >= 1000 * sampleMs || repeats === mostRepeats || now - before >= longestSampleMs;
    if (longEnough && (gpu.caps.software || now - start >= warmUpMs)) return repeats;
    if (longEnough) continue;
    const wanted = Math.ceil((repeats * 1000 * sampleMs) / Math.max(us, 0.1));
    repeats = Math.min(mostRepeats, 8 * repeats, Math.max(repeats + 1, wanted));
  }
}

/** Microseconds of one pass with `encode` recorded `repeats` times. */
async function runOnce(gpu: Gpu, encode: Encode, repeats: number): Promise<number> {
  return hasGpuClock(gpu) ? runWithTimestamps(gpu, encode, repeats) : runByWall(gpu, encode, repeats);
}

async function runByWall({ device }: Gpu, encode: Encode, repeats: number): Promise<number> {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (let i = 0; i < repeats; i++) encode(pass);
  pass.end();
  const start = performance.now();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
  return 1000 * (performance.now() - start);
}

async function runWithTimestamps({ device }: Gpu, encode: Encode, repeats: number): Promise<number> {
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: 0x200 | 0x4 }); // QUERY_RESOLVE | COPY_SRC
  const staging = device.createBuffer({ size: 16, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
  const encoder = device.createCommandEncoder();
  const timestampWrites = { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
  const pass = encoder.beginComputePass({ timestampWrites });
  for (let i = 0; i < repeats; i++) encode(pass);
  pass.end();
  encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(0x1);
  const [begin, end] = new BigUint64Array(staging.getMappedRange());
  const us = Number(end! - begin!) / 1000;
  for (const resource of [querySet, resolved, staging]) resource.destroy();
  return us;
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
