import { expect, type Page } from '@playwright/test';

/** Loading compiles every kernel, which a software GPU on a busy machine takes its time for. */
const loadMs = 120_000;
/** A short reply on a software GPU. */
export const replyMs = 120_000;

/** Opens the page, which loads the default model by itself. */
export async function openPage(page: Page): Promise<void> {
  await page.goto('/');
  await expectReady(page);
}

export async function expectReady(page: Page): Promise<void> {
  await expect(page.getByTestId('status')).toHaveText(/^(ready|error)$/, { timeout: loadMs });
  expect(await page.getByTestId('error').allTextContents()).toEqual([]);
}

export async function loadModel(page: Page, id: string): Promise<void> {
  await page.getByTestId('model-select').selectOption(id);
  await page.getByTestId('load').click();
  await expectReady(page);
}

/** Sets one number in the settings panel, which is left open. */
export async function setNumber(page: Page, key: string, value: number): Promise<void> {
  const toggle = page.getByTestId('settings-toggle');
  if ((await toggle.getAttribute('aria-expanded')) === 'false') await toggle.click();
  const field = page.getByTestId(`setting-${key}`);
  await field.fill(String(value));
  await field.press('Tab');
  await expect(field).toHaveValue(String(value));
}

/** Sends a message from the composer and returns the finished reply's text. */
export async function ask(page: Page, text: string): Promise<string> {
  await page.getByTestId('composer').fill(text);
  await page.getByTestId('send').click();
  return lastReply(page);
}

export async function lastReply(page: Page): Promise<string> {
  const reply = page.getByTestId('message-assistant').last();
  await expect(reply).toHaveAttribute('data-state', /done|failed/, { timeout: replyMs });
  return (await reply.textContent())!;
}

/** Paths of the model files that the page asks the server for, from now on. */
export function watchModelRequests(page: Page): string[] {
  const paths: string[] = [];
  page.context().on('request', (request) => {
    const { pathname } = new URL(request.url());
    if (/\/models\/.+\//.test(pathname)) paths.push(pathname);
  });
  return paths;
}
