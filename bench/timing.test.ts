import { beforeAll, describe, expect, test } from 'vitest';
import type { Gpu } from '../src/gpu/gpu';
import { openNodeGpu } from '../src/gpu/node';
import { makeOp } from '../src/kernels/op';
import { encodeOps, Workbench } from './bench-context';
import countSource from './shaders/count_dispatch.wgsl?raw';
import { type Encode, timePasses } from './timing';

describe.each([
  { clock: 'gpu', software: false },
  { clock: 'wall', software: true },
])('timePasses by the clock $clock', ({ clock, software }) => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await openNodeGpu({ software });
  });

  const counter = async (workbench: Workbench): Promise<{ encode: Encode; count: () => Promise<number> }> => {
    const buffer = workbench.buffer('counter', 16);
    const op = await makeOp(workbench, {
      label: 'count_dispatch',
      source: countSource,
      bindings: [buffer],
      grid: () => [1, 1, 1],
    });
    const count = async () => new Uint32Array(await workbench.read(buffer, 0, 4))[0]!;
    return { encode: encodeOps([op], 1), count };
  };

  test('takes a sample of every candidate in every round', async () => {
    await Workbench.use(gpu, async (workbench) => {
      const [a, b] = [await counter(workbench), await counter(workbench)];
      const shares: number[] = [];
      const options = { samples: 3, sampleMs: 0, onClock: (share: number) => shares.push(share) };
      const times = await timePasses(gpu, [a.encode, b.encode], options);
      expect(times.map(({ each }) => each.length)).toEqual([3, 3]);
      expect(times.map((timed) => timed.clock)).toEqual([clock, clock]);
      // Each once to find the repetitions, which `sampleMs` 0 leaves at one, then three samples, by the GPU's clock each behind
      // an execution that does not count.
      const executions = clock === 'gpu' ? 7 : 4;
      expect([await a.count(), await b.count()]).toEqual([executions, executions]);
      expect(shares).toHaveLength(software ? 0 : 3);
      for (const share of shares) expect(share).toBeGreaterThan(0);
    });
  });

  test('begins each round with the next candidate', async () => {
    await Workbench.use(gpu, async (workbench) => {
      const { encode } = await counter(workbench);
      const recorded: string[] = [];
      const candidates = ['a', 'b', 'c'].map(
        (name): Encode =>
          (pass) => {
            recorded.push(name);
            encode(pass);
          },
      );
      await timePasses(gpu, candidates, { samples: 4, sampleMs: 0 });
      expect(recorded.join('').replace(/(.)\1/g, '$1')).toBe('abc' + 'abc' + 'bca' + 'cab' + 'abc'); // the first to find the repetitions
    });
  });

  test('an invalid pass is an error, not a time', async () => {
    const encode: Encode = (pass) => pass.dispatchWorkgroups(1); // no pipeline is set
    await expect(timePasses(gpu, [encode], { samples: 1 })).rejects.toThrow(/invalid/i);
  });

  test('an abort ends it', async () => {
    await Workbench.use(gpu, async (workbench) => {
      const { encode } = await counter(workbench);
      const options = { samples: 3, signal: AbortSignal.abort(new Error('stop')) };
      await expect(timePasses(gpu, [encode], options)).rejects.toThrow('stop');
    });
  });
});
