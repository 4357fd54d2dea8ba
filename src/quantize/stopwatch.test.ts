import { setTimeout } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Stopwatch } from './stopwatch';

test('a stage within a stage is taken off it, and stages add up over calls and errors', async () => {
  const watch = new Stopwatch();
  const start = performance.now();
  await watch.time('outer', async () => {
    await setTimeout(10);
    await watch.time('inner', () => setTimeout(30));
    await setTimeout(10);
  });
  await expect(watch.time('inner', () => Promise.reject(new Error('gone')))).rejects.toThrow('gone');
  const wholeSeconds = (performance.now() - start) / 1000;
  const { outer, inner } = watch.seconds;
  expect(Object.keys(watch.seconds)).toEqual(['outer', 'inner']);
  // no time is booked twice, and none is lost but what lies between the two calls
  expect(outer! + inner!).toBeLessThanOrEqual(wholeSeconds + 0.001);
  expect(inner!).toBeGreaterThan(0.025);
  expect(outer!).toBeGreaterThan(0.015);
});
