/** GPU time of compute passes from timestamp queries, several command buffers in flight. */
import type { Encode } from './timing';

/** Passes of one command buffer whose times are on the way. */
export interface PendingTimes {
  /** Microseconds of each pass. Frees the queries. */
  read(): Promise<number[]>;
}

/** Submits one command buffer with a pass for each `encode` and returns without waiting for it. */
export function submitTimed(device: GPUDevice, passes: readonly Encode[]): PendingTimes {
  const bytes = 16 * passes.length;
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 * passes.length });
  const resolved = device.createBuffer({ size: bytes, usage: 0x200 | 0x4 }); // QUERY_RESOLVE | COPY_SRC
  const staging = device.createBuffer({ size: bytes, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
  const encoder = device.createCommandEncoder();
  passes.forEach((encode, i) => {
    const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
    const pass = encoder.beginComputePass({ timestampWrites });
    encode(pass);
    pass.end();
  });
  encoder.resolveQuerySet(querySet, 0, 2 * passes.length, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, staging, 0, bytes);
  device.queue.submit([encoder.finish()]);
  const mapped = staging.mapAsync(0x1);
  mapped.catch(() => undefined); // awaited in `read`; never an unhandled rejection
  return {
    async read() {
      try {
        await mapped;
        const stamps = new BigUint64Array(staging.getMappedRange());
        return passes.map((_, i) => Number(stamps[2 * i + 1]! - stamps[2 * i]!) / 1000);
      } finally {
        for (const resource of [querySet, resolved, staging]) resource.destroy();
      }
    },
  };
}
