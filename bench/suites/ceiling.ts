/** What the device can do at best: every other figure is compared with these, from the same run. */
import { foldGrid, makeOp, type Op } from '../../src/kernels/op';
import { type BenchContext, encodeOps, Workbench } from '../bench-context';
import { VerificationError } from '../figures';
import copySource from '../shaders/copy_bandwidth.wgsl?raw';
import countSource from '../shaders/count_dispatch.wgsl?raw';
import fillSource from '../shaders/fill_index.wgsl?raw';
import readSource from '../shaders/read_bandwidth.wgsl?raw';
import { rateOf, type Summary, scaled } from '../statistics';
import { type Timed, timePass, timeWall } from '../timing';

const workgroup = 256;
const vectorBytes = 16;
const loadsInFlight = 4;
const fillMultiplier = 2654435761n;

/** Figures that other suites divide by. */
export interface Ceiling {
  readonly readBytesPerUs: number;
  /** A dispatch that waits for the one before it, in the same pass. */
  readonly dispatchUs: number;
}

const ceilings = new WeakMap<GPUDevice, Ceiling>();

/** The ceiling measured on this device in this run; measures it when the suite has not run. */
export async function ceilingOf(bench: BenchContext): Promise<Ceiling> {
  const known = ceilings.get(bench.gpu.device);
  if (known) return known;
  bench.step('read bandwidth and dispatch cost');
  const read = await bestRead(bench);
  const chain = await dependentDispatches(bench);
  const ceiling = { readBytesPerUs: read.bytes / read.timed.us.median, dispatchUs: chain.us.median };
  ceilings.set(bench.gpu.device, ceiling);
  return ceiling;
}

/** Read and copy bandwidth, dispatches that wait and that do not, and a submit that is read back. */
export async function runCeiling(bench: BenchContext): Promise<void> {
  bench.step('read bandwidth');
  const read = await bestRead(bench);
  bench.add('read', 'GB/s', rateOf(read.timed.us, read.bytes / 1e3), read.timed.clock);
  bench.step('copy bandwidth');
  const copy = await timeCopy(bench);
  bench.add('copy', 'GB/s', rateOf(copy.timed.us, (2 * copy.bytes) / 1e3), copy.timed.clock);
  bench.step('dispatches');
  const chain = await dependentDispatches(bench);
  bench.addTime('dispatch-dependent', chain);
  bench.addTime('dispatch-independent', await independentDispatches(bench));
  bench.addTime('dispatch-own-pass', await passesOfTheirOwn(bench));
  bench.step('submit and read back');
  const roundTrip = await roundTripMs(bench);
  bench.add('submit-and-read-back', 'ms', roundTrip, 'wall');
  ceilings.set(bench.gpu.device, {
    readBytesPerUs: read.bytes / read.timed.us.median,
    dispatchUs: chain.us.median,
  });
}

interface TimedBytes {
  readonly timed: Timed;
  readonly bytes: number;
}

/** Larger than any cache on hardware, small enough to be quick in software. */
function dataBytes({ gpu }: BenchContext): number {
  const { maxStorageBufferBindingSize, maxBufferSize } = gpu.device.limits;
  const wanted = gpu.caps.software ? 2 ** 22 : 2 ** 30;
  return 2 ** Math.floor(Math.log2(Math.min(wanted, maxStorageBufferBindingSize, maxBufferSize)));
}

async function fill(workbench: Workbench, label: string, bytes: number): Promise<GPUBuffer> {
  const buffer = workbench.buffer(label, bytes);
  const words = bytes / 4;
  const op = await makeOp(workbench, {
    label: 'fill_index',
    source: fillSource,
    constants: { WORKGROUP: workgroup },
    bindings: [workbench.arena.uniform('fill.params', { words }), buffer],
    grid: () => [...foldGrid(Math.ceil(words / workgroup)), 1],
  });
  workbench.submit(encodeOps([op], 1));
  return buffer;
}

async function readOp(
  workbench: Workbench,
  data: GPUBuffer,
  groups: number,
): Promise<{ op: Op; sums: GPUBuffer }> {
  const sums = workbench.buffer('sums', 4 * groups);
  const params = workbench.arena.uniform('read.params', { vectors: data.size / vectorBytes });
  const op = await makeOp(workbench, {
    label: 'read_bandwidth',
    source: readSource,
    constants: { WORKGROUP: workgroup },
    bindings: [params, data, sums],
    grid: () => [groups, 1, 1],
  });
  return { op, sums };
}

/** @throws VerificationError unless the words that were read add up */
async function verifySum(workbench: Workbench, data: GPUBuffer, groups: number): Promise<void> {
  const { op, sums } = await readOp(workbench, data, groups);
  workbench.submit(encodeOps([op], 1));
  const partial = new Uint32Array(await workbench.read(sums, 0, 4 * groups));
  const found = partial.reduce((sum, value) => (sum + value) >>> 0, 0);
  const words = BigInt(data.size / 4);
  const expected = Number((((words * (words - 1n)) / 2n) * fillMultiplier) % 2n ** 32n);
  if (found !== expected) throw new VerificationError(`read_bandwidth: sum ${found}, expected ${expected}`);
}

/** The best of several numbers of workgroups: which one fills a device is not known beforehand. */
async function bestRead(bench: BenchContext): Promise<TimedBytes> {
  const bytes = dataBytes(bench);
  const most = Math.min(8192, bytes / (vectorBytes * loadsInFlight * workgroup));
  return Workbench.use(bench.gpu, async (workbench) => {
    const data = await fill(workbench, 'data', bytes);
    let best: Timed | null = null;
    for (const groups of [most, most / 4]) {
      await verifySum(workbench, data, groups);
      const { op } = await readOp(workbench, data, groups);
      const timed = await timePass(bench.gpu, encodeOps([op], 1), bench.timing);
      if (!best || timed.us.median < best.us.median) best = timed;
    }
    return { timed: best!, bytes };
  });
}

async function timeCopy(bench: BenchContext): Promise<TimedBytes> {
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

function perDispatch({ us, clock }: Timed): Timed {
  return { us: scaled(us, 1 / chainLength), clock };
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
async function passesOfTheirOwn(bench: BenchContext): Promise<Timed> {
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
    return { us: scaled(ms, 1000 / passes), clock: 'wall' };
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
