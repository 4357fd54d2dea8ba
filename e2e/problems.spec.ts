import { expect, type Page, test } from '@playwright/test';
import { ask, expectReady, openPage, setNumber } from './support';

test('an address without a model gets a clear answer, and the page stays usable', async ({ page }) => {
  await openPage(page);
  await page.getByTestId('model-select').selectOption('url');
  await page.getByTestId('model-url').fill(new URL('/models/nothing-here/', page.url()).href);
  await page.getByTestId('load').click();
  await expect(page.getByTestId('error')).toContainText(
    /Demo chat 8M, W4A4 stays loaded.*Cannot download manifest\.json: (not found|the server answered with a web page).*nothing-here\/manifest\.json/,
  );
  await page.getByTestId('dismiss').click();
  await expect(page.getByTestId('composer')).toBeFocused();
  await expect(page.getByTestId('model-select').locator('option:checked')).toContainText(
    'Demo chat 8M, W4A4',
  );
  await expectReady(page);
  await setNumber(page, 'maxTokens', 2);
  expect(await ask(page, 'Hello')).not.toBe('');
});

test('a file with other bytes than the manifest promises is refused by name', async ({ page, context }) => {
  await context.route('**/tokenizer.json', async (route) => {
    const response = await route.fetch();
    const body = await response.body();
    body[100]! ^= 1;
    await route.fulfill({ response, body });
  });
  await page.goto('/');
  await expect(page.getByTestId('error')).toContainText(
    /Tokenizer\.json: wrong SHA-256: expected [0-9a-f]{64}, found [0-9a-f]{64}/i,
  );
  await expect(page.getByTestId('status')).toHaveText('error');
});

test.describe('without WebGPU the page says what is missing and what helps', () => {
  /** Runs `code` in the worker before the engine. */
  async function beforeWorker(page: Page, code: string): Promise<void> {
    await page.context().route(/engine\.worker.*\.js/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `${code}\n${await response.text()}` });
    });
  }

  test('no WebGPU in the browser', async ({ page }) => {
    await beforeWorker(
      page,
      `Object.defineProperty(WorkerNavigator.prototype, 'gpu', { value: undefined });`,
    );
    await page.goto('/');
    await expect(page.getByRole('heading', { name: 'This browser has no WebGPU' })).toBeVisible();
    await expect(page.getByTestId('status')).toHaveText('WebGPU is not available');
  });

  test('no adapter', async ({ page }) => {
    await beforeWorker(page, 'GPU.prototype.requestAdapter = async () => null;');
    await page.goto('/');
    await expect(page.getByRole('heading', { name: 'WebGPU found no graphics processor' })).toBeVisible();
    await expect(page.getByTestId('unavailable')).toContainText('hardware acceleration');
  });
});
