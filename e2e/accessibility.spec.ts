import { AxeBuilder } from '@axe-core/playwright';
import { expect, type Page, test } from '@playwright/test';
import { ask, openPage } from './support';

/** Rules broken on the page as it is now, with the elements that break them. */
async function violations(page: Page): Promise<string[]> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
}

for (const width of [1280, 390]) {
  test(`axe finds nothing, light or dark: ${width} pixels wide`, async ({ page }) => {
    const check = async (what: string) => {
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme });
        expect.soft(await violations(page), `${what}, ${colorScheme}`).toEqual([]);
      }
    };
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await page.setViewportSize({ width, height: 844 });
    await openPage(page);
    await check('empty page');
    await ask(page, 'Who are you?');
    await check('conversation');
    await page.getByTestId('settings-toggle').click();
    await check('settings');
    await page.getByRole('button', { name: 'Close', exact: true }).click();
    await page.getByTestId('manager-open').click();
    await expect(page.getByTestId('model-row').first()).toContainText('GPU memory');
    await check('models');
    await page.keyboard.press('Escape');
    if (width < 1000) await page.getByTestId('sidebar-toggle').click();
    await expect(page.getByTestId('chat-list')).toBeVisible();
    await check('chats');
  });
}

test('a screen reader hears a reply once, when it is finished', async ({ page }) => {
  await openPage(page);
  await page.evaluate(() => {
    const said: string[] = [];
    Object.assign(window, { said });
    const announcer = document.querySelector('[data-testid=announcer]')!;
    new MutationObserver(() => said.push(announcer.textContent ?? '')).observe(announcer, {
      childList: true,
      characterData: true,
      subtree: true,
    });
  });
  const reply = await ask(page, 'I want to find a restaurant in San Jose.');
  await expect(page.getByTestId('announcer')).toContainText(reply.trim());
  expect(await page.evaluate(() => (window as unknown as { said: string[] }).said.length)).toBe(1);
  await expect(page.getByRole('log')).toHaveAttribute('aria-live', 'off');
});
