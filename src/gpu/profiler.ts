/** GPU time per operation, from timestamp queries; each operation runs in a compute pass of its own. */
import type { Gpu } from './gpu';

/** One profiled operation. */
export interface OpTiming {
  readonly label: string;
  /** Median over the repetitions. */
  readonly us: number;
}

const queriesPerSet = 4096;

/**
 * Runs `encode` functions in order, `repetitions` times, and returns the median GPU time of each. Needs
 * `timestamp-query`; a browser may round to 100 µs unless it was started for benchmarks.
 */
export async function profileOps(
  gpu: Gpu,
  ops: readonly { readonly label: string; readonly encode: (pass: GPUComputePassEncoder) => void }[],
  repetitions: number,
): Promise<OpTiming[]> {
  if (!gpu.caps.timestampQuery) throw new Error('this device has no timestamp-query');
  const samples: number[][] = ops.map(() => []);
  for (let repetition = 0; repetition < repetitions; repetition++) {
    for (let start = 0; start < ops.length; start += queriesPerSet / 2) {
      const part = ops.slice(start, start + queriesPerSet / 2);
      const us = await timePart(gpu.device, part);
      us.forEach((value, i) => {
        samples[start + i]!.push(value);
      });
    }
  }
  return ops.map(({ label }, i) => ({ label, us: median(samples[i]!) }));
}

async function timePart(
  device: GPUDevice,
  ops: readonly { readonly encode: (pass: GPUComputePassEncoder) => void }[],
): Promise<number[]> {
  const bytes = 16 * ops.length;
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 * ops.length });
  const resolved = device.createBuffer({ size: bytes, usage: 0x200 | 0x4 }); // QUERY_RESOLVE | COPY_SRC
  const staging = device.createBuffer({ size: bytes, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
  const encoder = device.createCommandEncoder();
  ops.forEach((op, i) => {
    const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
    const pass = encoder.beginComputePass({ timestampWrites });
    op.encode(pass);
    pass.end();
  });
  encoder.resolveQuerySet(querySet, 0, 2 * ops.length, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, staging, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(0x1);
  const stamps = new BigUint64Array(staging.getMappedRange().slice(0));
  querySet.destroy();
  resolved.destroy();
  staging.destroy();
  return ops.map((_, i) => Number(stamps[2 * i + 1]! - stamps[2 * i]!) / 1000);
}

/** The middle value; the mean of the two middle ones for an even count. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
