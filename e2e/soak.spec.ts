/**
 * The page for a while: replies in random order with cancels, reloads, rotten shards and a network that fails. Every reply
 * that may end is the reference's, and neither GPU buffers nor JavaScript memory pile up. SOAK_REPLIES makes it longer.
 */
import { type CDPSession, expect, type Page } from '@playwright/test';
import { seededRandom } from '../src/format/random';
import type { Fault, FaultServer } from './fault-server';
import { beforeWorker, countBuffers, damageStored, liveBuffers, open, test } from './fault-support';
import { ask, expectReady, lastReply, setNumber } from './support';
import type { TinyArtifact } from './tiny-artifact';

const replies = Number(process.env.SOAK_REPLIES ?? 12);
const next = seededRandom(Number(process.env.SOAK_SEED ?? 1));
const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
const prompts = ['Hello', 'The weather in Chicago', 'Tell me a story about 1234 tables.'];

test(`${replies} replies with cancels, reloads and faults`, async ({ page, context, server, artifact }) => {
  test.setTimeout(60_000 + 20_000 * replies);
  const counts = { compared: 0, cancelled: 0, reloads: 0, rottenShards: 0, networkFaults: 0 };
  await beforeWorker(page, countBuffers);
  await open(page);
  await setNumber(page, 'temperature', 0);
  await setNumber(page, 'maxTokens', 24);
  const session = await context.newCDPSession(page);
  const references = new Map<string, string>();
  for (const prompt of prompts) references.set(prompt, await fresh(page, prompt));
  const first = { ...(await liveBuffers(page)), heapMb: await heapMb(session) };
  for (let reply = 0; reply < replies; reply++) {
    const dice = next();
    if (dice < 0.2) {
      const prompt = pick(prompts);
      const begun = await cancelled(page, prompt);
      expect(references.get(prompt)!.startsWith(begun), `"${begun}" begins the reference`).toBe(true);
      counts.cancelled++;
    } else if (dice < 0.35) {
      await reload(page, server, artifact, counts);
    } else {
      const prompt = pick(prompts);
      expect(await fresh(page, prompt), `reply ${reply}`).toBe(references.get(prompt));
      counts.compared++;
    }
  }
  const last = { ...(await liveBuffers(page)), heapMb: await heapMb(session) };
  console.log(JSON.stringify({ replies, ...counts, first, last }));
  expect(counts.compared).toBeGreaterThan(replies / 3);
  expect([last.count, last.bytes]).toEqual([first.count, first.bytes]);
  expect(last.heapMb).toBeLessThan(first.heapMb + 20);
});

/** A reply in a conversation of its own. */
async function fresh(page: Page, prompt: string): Promise<string> {
  await newChat(page);
  return ask(page, prompt);
}

async function newChat(page: Page): Promise<void> {
  const button = page.getByTestId('new-chat').first();
  if (await button.isEnabled()) await button.click(); // an empty conversation is a new one
}

/** Stops a reply somewhere; what it has is the beginning of the reference. */
async function cancelled(page: Page, prompt: string): Promise<string> {
  await newChat(page);
  await page.getByTestId('composer').fill(prompt);
  await page.getByTestId('send').click();
  await page.waitForTimeout(next() * 300);
  // the reply may have come to its end meanwhile
  await page
    .getByTestId('stop')
    .click({ timeout: 500 })
    .catch(() => undefined);
  await lastReply(page);
  const reply = page.getByTestId('message-assistant').last().locator('.markdown');
  return (await reply.count()) === 0 ? '' : ((await reply.textContent()) ?? '');
}

async function reload(
  page: Page,
  server: FaultServer,
  artifact: TinyArtifact,
  counts: { reloads: number; rottenShards: number; networkFaults: number },
): Promise<void> {
  const shard = pick(artifact.manifest.shards);
  if (next() < 0.7) {
    await damageStored(
      page,
      next() < 0.5 ? { flip: shard.sha256, cut: '' } : { flip: '', cut: shard.sha256 },
    );
    counts.rottenShards++;
    const faults: Fault[] = [
      { kind: 'drop', afterBytes: Math.floor(next() * shard.bytes) },
      { kind: 'flip', bit: Math.floor(next() * shard.bytes * 8) },
      { kind: 'status', status: 503 },
    ];
    if (next() < 0.5) {
      server.faults.set(shard.name, [pick(faults)]);
      counts.networkFaults++;
    }
  }
  await page.reload();
  await expectReady(page);
  counts.reloads++;
}

/** JavaScript memory of the page after a collection. */
async function heapMb(session: CDPSession): Promise<number> {
  await session.send('HeapProfiler.collectGarbage');
  const { usedSize } = await session.send('Runtime.getHeapUsage');
  return Math.round(usedSize / 1e5) / 10;
}
