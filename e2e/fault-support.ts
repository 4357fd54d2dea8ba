/** What the fault tests share: the tiny model on a fault-injecting server, offered by the page as its only model. */
import { test as base, expect, type Page } from '@playwright/test';
import { type FaultServer, startFaultServer } from './fault-server';
import { expectReady } from './support';
import { type TinyArtifact, type TinyOptions, tinyArtifact } from './tiny-artifact';

interface FaultFixtures {
  /** Of the tiny model. */
  readonly options: TinyOptions;
  readonly artifact: TinyArtifact;
  readonly server: FaultServer;
}

/** Tests with the tiny model in place of the page's own ones. */
export const test = base.extend<FaultFixtures>({
  options: [{}, { option: true }],
  artifact: async ({ options }, use) => use(tinyArtifact(options)),
  server: async ({ artifact, context }, use) => {
    const server = await startFaultServer(artifact.files);
    // a worker whose script a test has changed counts as one from elsewhere, which may not ask this computer
    await context.grantPermissions(['local-network-access']);
    const model = { id: 'tiny', name: 'tiny', path: server.url, scheme: 'mergequant', actBits: 4, bytes: 1 };
    await context.route('**/models/index.json', (route) => route.fulfill({ json: { models: [model] } }));
    await use(server);
    await server.close();
  },
});

test.use({ serviceWorkers: 'block' }); // Playwright cannot intercept what a service worker fetches

/** Runs `code` in the engine's worker before the engine. */
export async function beforeWorker(page: Page, code: string): Promise<void> {
  await page.context().route(/engine\.worker.*\.js/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${code}\n${await response.text()}` });
  });
}

/** For {@link beforeWorker}: counts the GPU buffers that live in the engine's worker. */
export const countBuffers = `
  const live = new Set();
  const create = GPUDevice.prototype.createBuffer;
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = create.call(this, descriptor);
    live.add(buffer);
    return buffer;
  };
  const destroy = GPUBuffer.prototype.destroy;
  GPUBuffer.prototype.destroy = function () {
    live.delete(this);
    destroy.call(this);
  };
  const questions = new BroadcastChannel('buffers');
  questions.onmessage = ({ data }) => {
    // staging of tokens in flight grows with the speed that was met; the tokenizer's thread has no GPU
    const kept = [...live].filter(({ label }) => label !== 'token');
    const bytes = kept.reduce((sum, { size }) => sum + size, 0);
    if (data === 'count' && self.name === '') questions.postMessage({ count: kept.length, bytes });
  };`;

/** Living GPU buffers, with {@link countBuffers}. */
export function liveBuffers(page: Page): Promise<{ count: number; bytes: number }> {
  return page.evaluate(
    () =>
      new Promise((resolve) => {
        const questions = new BroadcastChannel('buffers');
        questions.onmessage = ({ data }) => {
          questions.close();
          resolve(data);
        };
        questions.postMessage('count');
      }),
  );
}

/** For {@link beforeWorker}: timers of one length run for another one. */
function withTimers(ofMs: number, ms: number): string {
  return `const realTimeout = setTimeout;
    self.setTimeout = (f, ms, ...rest) => realTimeout(f, ms === ${ofMs} ? ${ms} : ms, ...rest);`;
}

/** Makes the download's idle watchdog bark after a second instead of thirty. */
export const shortWatchdog = withTimers(30_000, 1000);

/** Ends the tokenizer's thread after two seconds instead of ten. */
export const shortTokenizerDeadline = withTimers(10_000, 2000);

/** Lets the page's next heartbeat, and it alone, ask the worker every second instead of every five. */
export async function quickHeartbeat(page: Page): Promise<void> {
  await page.evaluate(() => {
    const real = window.setInterval;
    window.setInterval = ((handler: TimerHandler, ms?: number) => {
      if (ms === 5000) window.setInterval = real;
      return real(handler, ms === 5000 ? 1000 : ms);
    }) as typeof setInterval;
  });
}

/** Names of the files asked for since the last call, without the manifest, sorted. */
export function takeRequests(server: FaultServer): string[] {
  const names = server.requests.splice(0).map(({ name }) => name);
  return names.filter((name) => name !== 'manifest.json').sort();
}

export async function open(page: Page): Promise<void> {
  await page.goto('/');
  await expectReady(page);
}

/** Waits for the page's words about a failed load. */
export async function expectError(page: Page, words: RegExp): Promise<void> {
  await expect(page.getByTestId('error')).toContainText(words);
  await expect(page.getByTestId('status')).toHaveText('error');
}

/** Has the page keep its shards in one store, whichever is faster; from a page of its origin. */
export function chooseStore(page: Page, kind: 'indexed-db' | 'opfs'): Promise<void> {
  return page.evaluate(
    (chosen) =>
      new Promise<void>((resolve, reject) => {
        const opening = indexedDB.open('mergequant-settings');
        opening.onupgradeneeded = () => opening.result.createObjectStore('settings');
        opening.onerror = () => reject(opening.error);
        opening.onsuccess = () => {
          const writing = opening.result.transaction('settings', 'readwrite');
          writing.objectStore('settings').put(chosen, 'shard-store');
          writing.oncomplete = () => resolve(opening.result.close());
        };
      }),
    kind,
  );
}

/** How many keys of the store end in a piece's place: pieces of files on their way. */
export function storedPieces(page: Page, kind: 'indexed-db' | 'opfs'): Promise<number> {
  return page.evaluate(async (chosen) => {
    const keys: string[] = [];
    if (chosen === 'opfs') {
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle('mergequant-shards', { create: true });
      for await (const key of folder.keys()) keys.push(key);
    } else {
      const db = await new Promise<IDBDatabase>((resolve, reject) => {
        const opening = indexedDB.open('mergequant-shards');
        opening.onerror = () => reject(opening.error);
        opening.onsuccess = () => resolve(opening.result);
      });
      const reading = db.transaction('shards').objectStore('shards').getAllKeys();
      await new Promise((resolve) => {
        reading.onsuccess = resolve;
      });
      keys.push(...(reading.result as string[]));
      db.close();
    }
    return keys.filter((key) => /\.at-\d+$/.test(key)).length;
  }, kind);
}

/** Spoils stored shards: `flip` one bit of the first, cut the second in half. Returns how many files are stored. */
export function damageStored(
  page: Page,
  sha256: { readonly flip: string; readonly cut: string },
): Promise<number> {
  return page.evaluate(async ({ flip, cut }) => {
    const flipped = (bytes: ArrayBuffer) => {
      new Uint8Array(bytes)[bytes.byteLength >> 1]! ^= 1;
      return bytes;
    };
    const change = (key: string, bytes: ArrayBuffer) =>
      key === flip ? flipped(bytes) : key === cut ? bytes.slice(0, bytes.byteLength >> 1) : null;
    let count = 0;
    const settled = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const db = await settled(indexedDB.open('mergequant-shards'));
    if (db.objectStoreNames.contains('shards')) {
      const store = db.transaction('shards', 'readwrite').objectStore('shards');
      const keys = (await settled(store.getAllKeys())) as string[];
      const values: ArrayBuffer[] = await settled(store.getAll());
      for (const [i, key] of keys.entries()) {
        count++;
        const changed = change(key, values[i]!);
        if (changed) await settled(store.put(changed, key));
      }
    }
    db.close();
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle('mergequant-shards', { create: true });
    for await (const key of folder.keys()) {
      count++;
      const handle = await folder.getFileHandle(key);
      const changed = change(key, await (await handle.getFile()).arrayBuffer());
      if (!changed) continue;
      const writable = await handle.createWritable();
      await writable.write(changed);
      await writable.close();
    }
    return count;
  }, sha256);
}
