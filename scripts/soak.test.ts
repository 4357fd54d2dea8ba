/** 60 replies of the tiny model; `npm run soak` makes it 1,000 of the demo model. */
import { expect, test } from 'vitest';
import { soak } from './soak';

const replies = Number(process.env.SOAK_REPLIES ?? 60);
const folder = process.env.SOAK_FOLDER;

test(`${replies} replies with cancels, reloads and faults are the reference's, and nothing leaks`, {
  timeout: 14_400_000,
}, async () => {
  const lostDevices = Math.max(1, Math.floor(replies / 200));
  const report = await soak({
    replies,
    seed: Number(process.env.SOAK_SEED ?? 1),
    maxTokens: Number(process.env.SOAK_TOKENS ?? 12),
    lostDevices,
    ...(folder ? { folder } : {}),
  });
  console.log(JSON.stringify(report));
  expect(report.problems).toEqual([]);
  expect(report.compared).toBeGreaterThan(replies / 2);
  expect(report.gpuBuffers[1]).toBe(report.gpuBuffers[0]);
  expect(report.gpuBytes[1]).toBe(report.gpuBytes[0]);
  expect(report.heapMb[1]).toBeLessThan(report.heapMb[0] + 100);
});
