/** What the device can do at best: every other figure is compared with these, from the same run. */
import { makeOp, type Op } from '../../src/kernels/op';
import { type BenchContext, encodeOps, Workbench } from '../bench-context';
import { ClockHold } from '../clock-hold';
import { VerificationError } from '../figures';
import copySource from '../shaders/copy_bandwidth.wgsl?raw';
import countSource from '../shaders/count_dispatch.wgsl?raw';
import { exactly, rateOf, type Summary, scaled } from '../statistics';
import { hasGpuClock, type Timed, timePass, timeWall } from '../timing';
import {
  dataBytes,
  fill,
  loadsInFlight,
  readCeiling,
  vectorBytes,
  verifySum,
  workgroup,
} from './read-ceiling';

/** After this long without work a GPU's clock has fallen. */
const idleMs = 1500;
const rampMs = 400;

/** Read and copy bandwidth, dispatches that wait and that do not, a submit that is read back, and the clock. */
export async function runCeiling(bench: BenchContext): Promise<void> {
  bench.step('read bandwidth');
  const read = await Workbench.use(bench.gpu, (workbench) => readCeiling(bench, workbench));
  bench.add('read', 'GB/s', rateOf(read.timed.us, read.bytes / 1e3), read.timed.clock);
  bench.step('copy bandwidth');
  const copy = await timeCopy(bench);
  bench.add('copy', 'GB/s', rateOf(copy.timed.us, (2 * copy.bytes) / 1e3), copy.timed.clock);
  bench.step('dispatches');
  bench.addTime('dispatch-dependent', await dependentDispatches(bench));
  bench.addTime('dispatch-independent', await independentDispatches(bench));
  bench.add('dispatch-own-pass', 'us', await passesOfTheirOwn(bench), 'wall');
  bench.step('submit and read back');
  const roundTrip = await roundTripMs(bench);
  bench.add('submit-and-read-back', 'ms', roundTrip, 'wall');
  if (hasGpuClock(bench.gpu)) await watchClock(bench);
}

/** How low the clock is after an idle moment, and how long it takes to rise: why everything is timed behind a hold. */
async function watchClock(bench: BenchContext): Promise<void> {
  bench.step('clock');
  const hold = await ClockHold.of(bench.gpu);
  await new Promise((resolve) => setTimeout(resolve, idleMs));
  const samples = await hold.ramp(rampMs);
  const best = Math.min(...samples.map(({ nsPerStep }) => nsPerStep));
  const percent = samples.map(({ nsPerStep }) => (100 * best) / nsPerStep);
  bench.add('clock-after-idle', '%', exactly(percent[0]!), 'gpu');
  const raised = samples.find((_, i) => percent[i]! >= 97);
  bench.add('clock-raised-after', 'ms', exactly(raised!.ms), 'wall');
}

async function timeCopy(bench: BenchContext): Promise<{ readonly timed: Timed; readonly bytes: number }> {
  const bytes = dataBytes(bench) / 2;
  return Workbench.use(bench.gpu, async (workbench) => {
    const source = await fill(workbench, 'source', bytes);
    const destination = workbench.buffer('destination', bytes);
    const groups = Math.min(8192, bytes / (vectorBytes * workgroup));
    const op = await makeOp(workbench, {
      label: 'copy_bandwidth',
      source: copySource,
      constants: { WORKGROUP: workgroup },
      bindings: [
        workbench.arena.uniform('copy.params', { vectors: bytes / vectorBytes }),
        source,
        destination,
      ],
      grid: () => [groups, 1, 1],
    });
    const timed = await timePass(bench.gpu, encodeOps([op], 1), bench.timing);
    await verifySum(
      workbench,
      destination,
      Math.min(8192, bytes / (vectorBytes * loadsInFlight * workgroup)),
    );
    return { timed, bytes };
  });
}

function countOp(workbench: Workbench, counter: GPUBuffer): Promise<Op> {
  return makeOp(workbench, {
    label: 'count_dispatch',
    source: countSource,
    bindings: [counter],
    grid: () => [1, 1, 1],
  });
}

const chainLength = 256;

function perDispatch({ us, each, clock }: Timed): Timed {
  return { us: scaled(us, 1 / chainLength), each: each.map((value) => value / chainLength), clock };
}

/** A chain in one pass; each waits for the one before. @throws VerificationError when one was lost */
async function dependentDispatches(bench: BenchContext): Promise<Timed> {
  return Workbench.use(bench.gpu, async (workbench) => {
    const counter = workbench.buffer('counter', 16);
    const op = await countOp(workbench, counter);
    const chain = encodeOps(
      Array.from({ length: chainLength }, () => op),
      1,
    );
    workbench.submit(chain);
    const [counted] = new Uint32Array(await workbench.read(counter, 0, 4));
    if (counted !== chainLength) {
      throw new VerificationError(`count_dispatch: ${counted} dispatches ran, expected ${chainLength}`);
    }
    return perDispatch(await timePass(bench.gpu, chain, bench.timing));
  });
}

/** As many on buffers of their own: nothing has to wait. */
async function independentDispatches(bench: BenchContext): Promise<Timed> {
  return Workbench.use(bench.gpu, async (workbench) => {
    const buffers = Array.from({ length: chainLength }, (_, i) => workbench.buffer(`counter ${i}`, 16));
    const ops = await Promise.all(buffers.map((buffer) => countOp(workbench, buffer)));
    return perDispatch(await timePass(bench.gpu, encodeOps(ops, 1), { ...bench.timing, sampleMs: 0 }));
  });
}

/** A chain of compute passes with one dispatch each, by the CPU's clock. */
async function passesOfTheirOwn(bench: BenchContext): Promise<Summary> {
  return Workbench.use(bench.gpu, async (workbench) => {
    const op = await countOp(workbench, workbench.buffer('counter', 16));
    const { device } = bench.gpu;
    const passes = 8 * chainLength;
    const ms = await timeWall(async () => {
      const encoder = device.createCommandEncoder();
      for (let i = 0; i < passes; i++) {
        const pass = encoder.beginComputePass();
        encodeOps([op], 1)(pass);
        pass.end();
      }
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
    }, bench.timing);
    return scaled(ms, 1000 / passes);
  });
}

/** One dispatch, submitted, and 256 bytes mapped: what a loop that waits for every token pays at least. */
async function roundTripMs(bench: BenchContext): Promise<Summary> {
  return Workbench.use(bench.gpu, async (workbench) => {
    const counter = workbench.buffer('counter', 256);
    const op = await countOp(workbench, counter);
    const { device } = bench.gpu;
    const staging = device.createBuffer({ size: 256, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    const samples = Math.max(30, bench.request.samples);
    try {
      return await timeWall(
        async () => {
          const encoder = device.createCommandEncoder();
          const pass = encoder.beginComputePass();
          encodeOps([op], 1)(pass);
          pass.end();
          encoder.copyBufferToBuffer(counter, 0, staging, 0, 256);
          device.queue.submit([encoder.finish()]);
          await staging.mapAsync(0x1);
          staging.unmap();
        },
        { ...bench.timing, samples },
      );
    } finally {
      staging.destroy();
    }
  });
}
