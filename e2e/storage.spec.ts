import { expect, type Page, test } from '@playwright/test';
import { ask, expectReady, openPage, watchModelRequests } from './support';

test('the second visit needs no network for the model', async ({ page, context }) => {
  await openPage(page);
  await page.close();
  await context.route(/\/models\/.+\//, (route) => route.abort('internetdisconnected'));
  const again = await context.newPage();
  await openPage(again);
  expect((await ask(again, 'Hi')).trim()).not.toBe('');
  await again.getByTestId('settings-toggle').click();
  await expect(again.getByTestId('model-facts')).toContainText('nothing downloaded');
});

test('a stored shard with a flipped bit is noticed and fetched again, alone', async ({ page }) => {
  await openPage(page);
  const stored = await damageLargestShard(page);
  expect(stored).toBeGreaterThan(1);
  const requests = watchModelRequests(page);
  await page.reload();
  await expectReady(page);
  expect(requests.map((path) => path.split('/').at(-1)!.replace(/\d+/, 'N')).sort()).toEqual([
    'manifest.json',
    'shard-N.safetensors',
  ]);
});

/** Flips one bit of the largest stored file; returns how many files are stored. */
function damageLargestShard(page: Page): Promise<number> {
  return page.evaluate(async () => {
    const settled = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const db = await settled(indexedDB.open('mergequant-shards'));
    const store = db.transaction('shards', 'readwrite').objectStore('shards');
    const keys = await settled(store.getAllKeys());
    const values: ArrayBuffer[] = await settled(store.getAll());
    const largest = values.reduce(
      (best, value, i) => (value.byteLength > values[best]!.byteLength ? i : best),
      0,
    );
    const bytes = new Uint8Array(values[largest]!);
    bytes[Math.floor(bytes.length / 2)]! ^= 1;
    await settled(store.put(bytes.buffer, keys[largest]!));
    db.close();
    return values.length;
  });
}

test('a download can be cancelled and taken up again', async ({ page, context }) => {
  let release: () => void = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  await context.route('**/*.safetensors', async (route) => {
    await held;
    await route.continue().catch(() => undefined); // the page no longer wants it
  });
  await page.goto('/');
  await expect(page.getByTestId('load-progress')).toContainText('Downloading');
  await page.getByTestId('cancel-load').click();
  await expect(page.getByTestId('status')).toHaveText('no model loaded');
  release();
  await page.getByTestId('load').click();
  await expectReady(page);
});

test('a stored model can be deleted', async ({ page }) => {
  await openPage(page);
  await page.getByTestId('settings-toggle').click();
  await page.getByTestId('stored-models').getByRole('button').click();
  await expect(page.getByTestId('stored-models')).toHaveCount(0);
  const count = await page.evaluate(
    () =>
      new Promise<number>((resolve, reject) => {
        const open = indexedDB.open('mergequant-shards');
        open.onerror = () => reject(open.error);
        open.onsuccess = () => {
          const request = open.result.transaction('shards').objectStore('shards').count();
          request.onsuccess = () => resolve(request.result);
        };
      }),
  );
  expect(count).toBe(0);
});
