import { expect, test } from '@playwright/test';
import { ask, expectReady, openPage } from './support';

test.use({ serviceWorkers: 'allow' });

test('after the first visit the page opens and answers without a network', async ({ page, context }) => {
  await openPage(page);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await context.setOffline(true);
  await page.reload();
  await expectReady(page);
  expect((await ask(page, 'Hi')).trim()).not.toBe('');
});

test('the manifest makes the page installable', async ({ page, request }) => {
  await page.goto('/');
  const href = await page.locator('link[rel=manifest]').getAttribute('href');
  const manifest = await (await request.get(href!)).json();
  expect(manifest).toMatchObject({ display: 'standalone', start_url: './' });
  for (const { src } of manifest.icons) expect((await request.get(`/${src}`)).ok()).toBe(true);
});
