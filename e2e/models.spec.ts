import { expect, test } from '@playwright/test';
import { ask, expectReady, openPage } from './support';

const folder = 'public/models/demo-chat-8m-w4a4';

test('the manager says what models take, whether they fit, and what is on this device', async ({ page }) => {
  await openPage(page);
  await page.getByTestId('manager-open').click();
  const rows = page.getByTestId('model-row');
  await expect(rows.first()).toContainText(
    /loaded.*MB.*of GPU memory.*fits this GPU’s limits.*on this device/s,
  );
  await expect(rows.last()).toContainText('not downloaded');
  await expect(page.getByTestId('storage-used')).toContainText(/Storage used by this page: [\d.]+ MB/);
  await rows
    .first()
    .getByRole('button', { name: /Delete/ })
    .click();
  await page.getByTestId('confirm-yes').click();
  await expect(rows.first()).toHaveAttribute('data-stored', 'no');
});

test('a folder from this computer is checked, stored, loaded, and there at the next visit', async ({
  page,
}) => {
  await openPage(page);
  await page.getByTestId('manager-open').click();
  await page.getByTestId('folder-input').setInputFiles(folder);
  const row = page.getByTestId('model-row').filter({ hasText: 'from a folder' });
  await expect(row).toContainText('loaded', { timeout: 120_000 });
  await page.keyboard.press('Escape');
  expect((await ask(page, 'Hi')).trim()).not.toBe('');
  await page.reload();
  await expectReady(page);
  await page.getByTestId('manager-open').click();
  await expect(row).toContainText('loaded');
});

test('a folder that is no artifact is refused by name', async ({ page }) => {
  await openPage(page);
  await page.getByTestId('manager-open').click();
  await page.getByTestId('folder-input').setInputFiles('models/demo-chat-8m');
  await expect(page.getByTestId('folder-drop')).toContainText('no manifest.json');
});
