/** Batches of activations on the GPU and beyond its budget. */
import { expect, test } from 'vitest';
import { openNodeGpu } from '../gpu/node';
import { ActivationBudget, GpuRows } from './gpu-rows';
import { GpuWork } from './gpu-work';

test('batches of any length, on the GPU and spilled, come back in the order asked for, in one read-back or several', async () => {
  const work = new GpuWork(await openNodeGpu());
  const rows = new GpuRows(work, new ActivationBudget(4 * 24, null), 4); // six rows stay on the GPU
  const batches = [2, 3, 1, 4].map((count, i) =>
    Float32Array.from({ length: 4 * count }, (_, k) => 100 * i + k),
  );
  for (const batch of batches) {
    const buffer = work.upload('batch', batch);
    await rows.append(buffer, batch.length / 4);
    work.free(buffer);
  }
  expect(rows.budget.spilledBytes).toBe(4 * 16);
  for (const mostFloats of [1, 20, 1000]) {
    const read = await rows.read([3, 0, 2, 1], mostFloats);
    expect(read.map((x) => [x.rows, x.cols, ...x.data])).toEqual(
      [3, 0, 2, 1].map((i) => [batches[i]!.length / 4, 4, ...batches[i]!]),
    );
  }
  expect(await rows.read([])).toEqual([]);
  const seen: number[] = [];
  await rows.walk(async (i) => {
    seen.push(i);
  });
  expect(seen).toEqual([0, 1, 2, 3]);
  rows.dispose();
  work.dispose();
});
