import { AxeBuilder } from '@axe-core/playwright';
import { expect, test } from '@playwright/test';

test('the panel measures the quantization step on this GPU and shows chart and table', async ({ page }) => {
  await page.goto('/panel.html?suites=quant-step&samples=2');
  await expect(page.getByTestId('bench-gpu')).toContainText('Adapter:');
  await page.getByTestId('bench-run').click();
  await expect(page.getByTestId('bench-status')).toHaveText('done', { timeout: 60_000 });
  await expect(page.getByTestId('bench-error')).toHaveCount(0);
  const view = page.getByTestId('bench-view-quant-step');
  await expect(view.getByRole('img')).toHaveAccessibleName(/dynamic, three passes .* µs/);
  await expect(view.getByRole('listitem').first()).toContainText(/static/);
  await view.getByText('As a table').click();
  await expect(view.getByRole('columnheader', { name: 'static, merged, µs' })).toBeVisible();
  await expect(view.getByRole('row')).toHaveCount(3);
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Save JSON' }).click();
  expect((await download).suggestedFilename()).toMatch(/^bench-.*\.json$/);
  expect(await page.getByTestId('bench-link').getAttribute('href')).toContain('suites=quant-step');
});

test('the panel shows what is in the bundled model', async ({ page }) => {
  await page.goto('/panel.html');
  await page.getByTestId('insight-show').click();
  const view = page.getByTestId('bench-view-insight-peaks');
  await expect(view.getByRole('img')).toHaveAccessibleName(/layer 0, attn: before/);
  await view.getByText('As a table').click();
  await expect(view.getByRole('columnheader', { name: 'M, columns added' })).toBeVisible();
});

test('the panel shows two replies to one prompt, with the first differing token marked', async ({ page }) => {
  await page.goto('/panel.html');
  await expect(page.getByTestId('comparison-model-1')).toHaveValue(/fp16/);
  await page.getByTestId('comparison-prompt').fill('What is the weather like in Chicago today?');
  await page.getByTestId('comparison-run').click();
  await expect(page.getByTestId('comparison-status')).toHaveText(/token \d+ differs/, { timeout: 200_000 });
  const replies = page.getByTestId('comparison-reply');
  await expect(replies).toHaveCount(2);
  await expect(replies.first()).toContainText(/Perplexity 2\d\.\d+, 1\.\d+ × float/);
  const marked = await page.getByTestId('comparison-differing').allTextContents();
  expect(new Set(marked).size).toBe(marked.length);
  expect(marked.length).toBeGreaterThan(0);
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
});

test('the panel opens beside the chat, and Esc gives the place back', async ({ page }) => {
  await page.goto('/');
  await page.getByTestId('measure-toggle').click();
  const drawer = page.getByRole('complementary', { name: 'Measurements' });
  await expect(drawer.getByTestId('bench-gpu')).toContainText('Adapter:');
  await expect(drawer.getByTestId('bench-shape')).toHaveValue('tiny'); // larger ones are for hardware
  await expect(drawer.getByTestId('comparison-model-0')).toHaveValue(/models\//);
  await expect(page.getByTestId('composer')).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  await page.keyboard.press('Escape');
  await expect(drawer).toHaveCount(0);
  await expect(page.getByTestId('measure-toggle')).toBeFocused();
});
