/** The bandwidth at which a device reads a buffer that no cache holds: the ceiling of every kernel that streams weights. */
import { foldGrid, makeOp, type Op } from '../../src/kernels/op';
import { type BenchContext, encodeOps, type Workbench } from '../bench-context';
import { VerificationError } from '../figures';
import fillSource from '../shaders/fill_index.wgsl?raw';
import readSource from '../shaders/read_bandwidth.wgsl?raw';
import { type Encode, type Timed, timePasses } from '../timing';

export const workgroup = 256;
export const vectorBytes = 16;
export const loadsInFlight = 4;
const fillMultiplier = 2654435761n;

/** Larger than any cache on hardware, small enough to be quick in software. */
export function dataBytes({ gpu }: BenchContext): number {
  const { maxStorageBufferBindingSize, maxBufferSize } = gpu.device.limits;
  const wanted = gpu.caps.software ? 2 ** 22 : 2 ** 30;
  return 2 ** Math.floor(Math.log2(Math.min(wanted, maxStorageBufferBindingSize, maxBufferSize)));
}

export async function fill(workbench: Workbench, label: string, bytes: number): Promise<GPUBuffer> {
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
export async function verifySum(workbench: Workbench, data: GPUBuffer, groups: number): Promise<void> {
  const { op, sums } = await readOp(workbench, data, groups);
  workbench.submit(encodeOps([op], 1));
  const partial = new Uint32Array(await workbench.read(sums, 0, 4 * groups));
  const found = partial.reduce((sum, value) => (sum + value) >>> 0, 0);
  const words = BigInt(data.size / 4);
  const expected = Number((((words * (words - 1n)) / 2n) * fillMultiplier) % 2n ** 32n);
  if (found !== expected) throw new VerificationError(`read_bandwidth: sum ${found}, expected ${expected}`);
}

/** The fastest way found to read a buffer, to be timed beside other work. */
export interface ReadCeiling {
  readonly encode: Encode;
  readonly bytes: number;
  readonly timed: Timed;
}

/**
 * The best of several numbers of workgroups: which one fills a device is not known beforehand. Its buffer belongs to
 * `workbench`.
 * @throws VerificationError
 */
export async function readCeiling(bench: BenchContext, workbench: Workbench): Promise<ReadCeiling> {
  const bytes = dataBytes(bench);
  const most = Math.min(32768, bytes / (vectorBytes * loadsInFlight * workgroup));
  const data = await fill(workbench, 'data', bytes);
  const candidates: Encode[] = [];
  for (const groups of new Set([most, most / 2, most / 4, most / 8, most / 16].map((n) => Math.max(1, n)))) {
    await verifySum(workbench, data, groups);
    candidates.push(encodeOps([(await readOp(workbench, data, groups)).op], 1));
  }
  const times = await timePasses(bench.gpu, candidates, bench.timing);
  const best = times.reduce((found, { us }, i) => (us.median < times[found]!.us.median ? i : found), 0);
  return { encode: candidates[best]!, bytes, timed: times[best]! };
}
