/** What network, disk, browser, GPU and worker do to the page, in a real browser (docs/FAULTS.md). */
import { expect } from '@playwright/test';
import {
  beforeWorker,
  chooseStore,
  countBuffers,
  damageStored,
  expectError,
  liveBuffers,
  open,
  quickHeartbeat,
  shortWatchdog,
  storedPieces,
  takeRequests,
  test,
} from './fault-support';
import { ask, expectReady, lastReply, setNumber } from './support';

const question = 'The weather';

test('network: a drop, a stall, 200 for 206, a changed file, a flipped bit, a short body and a 503 in one load', async ({
  page,
  server,
  artifact,
}) => {
  const shards = artifact.manifest.shards.map(({ name }) => name);
  expect(shards.length).toBeGreaterThan(6);
  const [drop, stall, ignored, changed, flip, short, oversized] = shards as [string, ...string[]];
  server.faults.set(drop, [{ kind: 'drop', afterBytes: 2000 }]);
  server.faults.set(stall!, [{ kind: 'stall', afterBytes: 2000 }]);
  server.faults.set(ignored!, [{ kind: 'drop', afterBytes: 2000 }, { kind: 'ignore-range' }]);
  server.faults.set(changed!, [{ kind: 'drop', afterBytes: 2000 }, { kind: 'other-version' }]);
  server.faults.set(flip!, [{ kind: 'flip', bit: 9000 }]);
  server.faults.set(short!, [{ kind: 'short', bytes: 1000 }]);
  server.faults.set(oversized!, [{ kind: 'oversized', bytes: 100 }]);
  server.faults.set('tokenizer.json', [{ kind: 'status', status: 503 }]);
  await beforeWorker(page, shortWatchdog);
  await open(page);
  const starts = (name: string) =>
    server.requests.filter((seen) => seen.name === name).map(({ from }) => from);
  expect(starts(drop)).toEqual([0, 2000]);
  expect(starts(stall!)).toEqual([0, 2000]);
  expect(starts(ignored!)).toEqual([0, 2000]);
  expect(starts(changed!)).toEqual([0, 2000, 0]);
  expect(starts(flip!)).toEqual([0, 0]);
  expect(starts(short!)).toEqual([0, 1000]);
  expect(starts(oversized!)).toEqual([0, 0]);
  expect((await ask(page, question)).length).toBeGreaterThan(0);

  // disk: a flipped bit and a cut file are found by their hash and fetched again, alone
  const [first, second] = artifact.manifest.shards;
  await damageStored(page, { flip: first!.sha256, cut: second!.sha256 });
  takeRequests(server);
  await page.reload();
  await expectReady(page);
  expect(takeRequests(server)).toEqual([first!.name, second!.name].sort());
  await page.reload();
  await expectReady(page);
  expect(takeRequests(server)).toEqual([]);
});

test('network: what stays wrong is named and not kept; what was verified is not fetched again', async ({
  page,
  server,
  artifact,
}) => {
  const bad = artifact.manifest.shards.at(-1)!.name;
  server.always.set(bad, { kind: 'flip', bit: 9000 });
  await page.goto('/');
  await expectError(page, new RegExp(`${bad}: wrong SHA-256: expected [0-9a-f]{64}, found`, 'i'));
  server.always.set(bad, { kind: 'web-page' });
  takeRequests(server);
  await page.getByTestId('load').click();
  await expectError(page, /the server answered with a web page/);
  expect(takeRequests(server)).toEqual([bad]);
  server.always.clear();
  await page.getByTestId('load').click();
  await expectReady(page);
  expect(takeRequests(server)).toEqual([bad]);
});

test('pause holds a download, resume lets it go on, a killed tab leaves what was verified', async ({
  page,
  context,
  server,
  artifact,
}) => {
  const shards = artifact.manifest.shards.map(({ name }) => name);
  const held = shards[3]!;
  server.faults.set(held, [
    { kind: 'stall', afterBytes: 3000 },
    { kind: 'stall', afterBytes: 1000 },
  ]);
  await page.goto('/');
  await expect.poll(() => server.requests.some(({ name }) => name === held)).toBe(true);
  await page.getByTestId('pause-load').click();
  await expect(page.getByTestId('load-progress')).toContainText('Paused');
  // there is room: what is needed is said, and no more
  await expect(page.getByTestId('storage-space')).toHaveText(
    /^Needs [\d.]+ kB of storage; this page uses [\d.]+ \w+ so far\. $/,
  );
  await page.getByTestId('pause-load').click();
  await expect
    .poll(() => server.requests.filter(({ name }) => name === held).map(({ from }) => from))
    .toEqual([0, 3000]);
  const before = server.requests.map(({ name }) => name);
  const session = await context.newCDPSession(page);
  session.send('Page.crash').catch(() => undefined); // no answer comes from a tab that is gone
  await page.waitForEvent('crash');
  takeRequests(server);
  const again = await context.newPage();
  await open(again);
  // shards before the held one were verified and stored; at most the two fetched beside it were not yet
  const fetched = takeRequests(server);
  expect(fetched).toContain(held);
  for (const name of shards.slice(0, 3)) {
    expect(before).toContain(name);
    expect(fetched).not.toContain(name);
  }
});

for (const [kind, end] of [
  ['opfs', 'reloaded'],
  ['indexed-db', 'killed'],
] as const) {
  test(`a tab ${end} within a file: the next one asks for the rest of it alone (${kind})`, async ({
    page,
    context,
    server,
    artifact,
  }) => {
    const { name, bytes } = artifact.manifest.shards.at(-1)!;
    const received = bytes - 1000;
    server.faults.set(name, [{ kind: 'stall', afterBytes: received }]);
    await page.goto('/app.webmanifest');
    await chooseStore(page, kind);
    await page.goto('/');
    await expect.poll(() => server.requests.some((seen) => seen.name === name)).toBe(true);
    await expect.poll(() => storedPieces(page, kind)).toBe(1);
    server.requests.length = 0;
    if (end === 'reloaded') {
      await page.reload();
      await expectReady(page);
    } else {
      const session = await context.newCDPSession(page);
      session.send('Page.crash').catch(() => undefined); // no answer comes from a tab that is gone
      await page.waitForEvent('crash');
      page = await context.newPage();
      await open(page);
    }
    const again = server.requests.filter((seen) => seen.name !== 'manifest.json');
    expect(again).toEqual([{ name, from: received }]); // 1000 bytes of all the model's files
    expect((await ask(page, question)).length).toBeGreaterThan(0);
    expect(await storedPieces(page, kind)).toBe(0);
  });
}

test('two tabs: one downloads, the other follows and takes over when the first is closed', async ({
  page,
  context,
  server,
  artifact,
}) => {
  const last = artifact.manifest.shards.at(-1)!.name;
  server.faults.set(last, [{ kind: 'hold', until: new Promise(() => undefined) }]);
  await page.goto('/');
  await expect.poll(() => server.requests.some(({ name }) => name === last)).toBe(true);
  takeRequests(server);
  const second = await context.newPage();
  await second.goto('/');
  await expect(second.getByTestId('load-progress')).toContainText('Another tab downloads this model');
  expect(takeRequests(server)).toEqual([]);
  await page.close();
  await expectReady(second);
  expect(takeRequests(server)).toEqual([last]);
});

test.describe('a full disk', () => {
  test.use({ options: { ballastBytes: 4_000_000 } });

  test('the model works, what is missing is said', async ({ page, context, server }) => {
    expect(server.url).toContain('127.0.0.1');
    const session = await context.newCDPSession(page);
    // Chromium's own estimate is 10 GiB more than what is used, whatever the quota
    await page.addInitScript(() => {
      navigator.storage.estimate = async () => ({ usage: 300_000, quota: 1_000_000 });
    });
    await page.goto('/app.webmanifest');
    const { origin } = new URL(page.url());
    await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 1_000_000 });
    let answer = () => {};
    const until = new Promise<void>((resolve) => {
      answer = resolve;
    });
    server.faults.set('ballast.bin', [{ kind: 'hold', until }]);
    await page.goto('/');
    await expect(page.getByTestId('storage-space')).toContainText(
      /Needs 4\.\d MB of storage; this page uses 300 kB so far\. The browser estimates that 700 kB are left\./,
    );
    answer(); // an estimate keeps nobody from loading
    await expectReady(page);
    expect((await ask(page, question)).length).toBeGreaterThan(0);
    await page.getByTestId('settings-toggle').click();
    await expect(page.getByTestId('storage-problem')).toContainText(/no room for it: 5 MB are needed/);
    await expect(page.getByTestId('persistence')).toHaveText(/The browser (keeps|may clear) these files/);
  });
});

test.describe('a GPU out of memory', () => {
  // keys of 1 GiB at the whole context: within this driver's limits, and more than it allocates
  test.use({ options: { maxPositionEmbeddings: 131_072, heads: { count: 32, dim: 128 } } });

  test('is named, everything is freed, and a shorter context is offered and works', async ({
    page,
    server,
  }) => {
    expect(server.url).toContain('127.0.0.1');
    await beforeWorker(page, countBuffers);
    await page.addInitScript(() => localStorage.setItem('mergequant.kv-cache', '"f16"'));
    await page.goto('/');
    await expectError(
      page,
      /cannot hold the model: KV cache and scratch takes [\d.]+ GiB[\s\S]*a context of 65536 tokens may fit/,
    );
    expect(await liveBuffers(page)).toEqual({ count: 0, bytes: 0 });
    await page.getByTestId('shorter-context').click();
    await expectReady(page);
    expect((await liveBuffers(page)).bytes).toBeGreaterThan(2 ** 30);
    await setNumber(page, 'maxTokens', 4);
    expect((await ask(page, question)).length).toBeGreaterThan(0);
  });
});

test.describe('the GPU process', () => {
  test.use({ options: { maxPositionEmbeddings: 4096 } });

  test('crashes in a reply: its text stays, the engine comes back; the second time the words are to restart', async ({
    page,
    server,
    browser,
  }) => {
    expect(server.url).toContain('127.0.0.1');
    const session = await browser.newBrowserCDPSession();
    const crash = () => session.send('Browser.crashGpuProcess').catch(() => undefined); // may die with the process
    await open(page);
    await setNumber(page, 'temperature', 0);
    await setNumber(page, 'maxTokens', 40);
    const reference = await ask(page, question);
    await setNumber(page, 'maxTokens', 3000);
    await page.getByTestId('composer').fill('Hello');
    await page.getByTestId('send').click();
    const reply = page.getByTestId('message-assistant').last();
    await expect(reply).not.toHaveText('');
    await crash();
    await lastReply(page);
    await expect(reply).toHaveAttribute('data-state', 'failed');
    await expect(reply).not.toHaveText('');
    await expectReady(page);
    await setNumber(page, 'maxTokens', 40);
    await page.getByTestId('new-chat').first().click();
    expect(await ask(page, question)).toBe(reference);
    await crash();
    await expectError(page, /restart the browser/i);
  });
});

test('the worker throws: the model comes back by itself', async ({ page, server }) => {
  expect(server.url).toContain('127.0.0.1');
  await beforeWorker(
    page,
    "new BroadcastChannel('test').onmessage = () => { throw new Error('thrown by the test'); };",
  );
  await open(page);
  const workers: string[] = [];
  page.on('worker', (worker) => workers.push(worker.url()));
  await page.evaluate(() => new BroadcastChannel('test').postMessage('throw'));
  await expect.poll(() => workers.length).toBe(1);
  await expectReady(page);
  expect((await ask(page, question)).length).toBeGreaterThan(0);
});

test('the worker hangs: the heartbeat ends it, with words, and the model comes back', async ({
  page,
  server,
}) => {
  expect(server.url).toContain('127.0.0.1');
  await beforeWorker(
    page,
    "new BroadcastChannel('test').onmessage = () => { if (self.name === '') for (;;); };",
  );
  await open(page);
  await quickHeartbeat(page);
  await page.evaluate(() => new BroadcastChannel('test').postMessage('hang'));
  await page.getByTestId('composer').fill(question);
  await page.getByTestId('send').click();
  await expect(page.getByTestId('notice').last()).toContainText('has not answered for 20 s');
  await expectReady(page);
  expect((await ask(page, question)).length).toBeGreaterThan(0);
});
