import { resolve } from 'node:path';
import { expect, type Page, test } from '@playwright/test';
import { ask, expectReady, openPage } from './support';

const folder = 'public/models/demo-chat-8m-w4a4';

/** Facts follow each other in an element's text without a space: W4A416.58 MiB. */
function mebibytes(text: string | null): number {
  return Number(/(?:W4A4)?([\d.]+) MiB/.exec(text ?? '')?.[1]);
}

test('the manager says what models take, whether they fit, and what is on this device', async ({ page }) => {
  await openPage(page);
  await page.getByTestId('settings-toggle').click();
  const used = mebibytes(await page.getByTestId('model-facts').textContent());
  await page.keyboard.press('Escape');
  await page.getByTestId('manager-open').click();
  const rows = page.getByTestId('model-row');
  await expect(rows.first()).toContainText(
    /loaded.*MB.*MiB of GPU memory.*fits this GPU’s limits.*on this device/s,
  );
  // The plan knows of all but some KiB: uniforms, and what the engine's extras take.
  expect(Math.abs(mebibytes(await rows.first().textContent()) - used)).toBeLessThan(0.05 * used);
  await expect(rows.last()).toContainText('not downloaded');
  await expect(page.getByTestId('storage-used')).toContainText(/Storage used by this page: [\d.]+ MB/);
  await rows
    .first()
    .getByRole('button', { name: /Delete/ })
    .click();
  await page.getByTestId('confirm-yes').click();
  await expect(rows.first()).toHaveAttribute('data-stored', 'no');
});

test('keys and values in fewer bits: told what they take, the model is loaded again and answers', async ({
  page,
}) => {
  await openPage(page);
  await page.getByTestId('settings-toggle').click();
  const choice = page.getByRole('group', { name: 'Memory of past tokens' });
  await expect(choice.getByRole('radio')).toHaveCount(4);
  await expect(choice).toContainText(
    /Automatic: 16-bit floats8\.00 MiB16-bit floats8\.00 MiB8-bit codes4\.\d\d MiB4-bit codes2\.\d\d MiB/,
  );
  const memory = page.getByTestId('model-facts').getByText('MiB', { exact: false }).last();
  const before = await memory.textContent();
  await choice.getByRole('radio', { name: /^16-bit/ }).focus();
  await page.keyboard.press('ArrowDown');
  await expect(page.getByTestId('status')).not.toHaveText('ready');
  await expectReady(page);
  await expect(choice.getByRole('radio', { name: '8-bit' })).toBeFocused();
  expect(Number.parseFloat((await memory.textContent())!)).toBeLessThan(Number.parseFloat(before!));
  expect((await ask(page, 'Hi')).trim()).not.toBe('');
});

test('one program per token: tried when the model is loaded again, and what came of it is said', async ({
  page,
}) => {
  await openPage(page);
  await page.getByTestId('settings-toggle').click();
  await expect(page.getByTestId('persistent-report')).toHaveCount(0);
  await page.getByRole('checkbox', { name: 'One GPU program per token' }).check();
  const report = page.getByTestId('persistent-report');
  await expect(report).toHaveText(/^(In use, on \d+ workgroups|Not in use: .+)\.$/);
  await expectReady(page);
  expect((await ask(page, 'Hi')).trim()).not.toBe('');
});

test('a folder from this computer is checked, refused by name or stored, loaded, and there at the next visit', async ({
  page,
}) => {
  await openPage(page);
  await page.getByTestId('manager-open').click();
  await page.getByTestId('folder-input').setInputFiles('models/demo-chat-8m');
  await expect(page.getByTestId('folder-drop')).toContainText(
    'this is a checkpoint (config.json, no manifest.json)',
  );
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

/** Drops a file or folder of this computer on the middle of the page, as a person does from the file manager. */
async function drop(page: Page, path: string): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const { width, height } = page.viewportSize()!;
  const data = { items: [], files: [resolve(path)], dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const) {
    await session.send('Input.dispatchDragEvent', { type, x: width / 2, y: height / 2, data });
  }
}

test('a folder dropped anywhere on the page is taken; anything else is refused, and the page stays', async ({
  page,
}) => {
  await openPage(page);
  await drop(page, 'README.md');
  await expect(page.getByTestId('folder-drop')).toContainText('no manifest.json');
  await page.keyboard.press('Escape');
  await drop(page, folder);
  const row = page.getByTestId('model-row').filter({ hasText: 'from a folder' });
  await expect(row).toContainText('loaded', { timeout: 120_000 });
});
