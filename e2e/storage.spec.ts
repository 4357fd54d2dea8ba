import { expect, test } from '@playwright/test';
import { damageStored } from './fault-support';
import { ask, expectReady, openPage } from './support';

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
  const count = await damageStored(page, { flip: '', cut: '' }); // damages nothing and counts the files
  expect(count).toBe(0);
});
