import { readFileSync } from 'node:fs';
import { expect, test } from '@playwright/test';
import { ask, lastReply, loadModel, openPage, replyMs, setNumber } from './support';

interface GoldenSample {
  readonly user?: string;
  readonly text: string;
}
const golden = JSON.parse(readFileSync('models/demo-chat-8m/report.json', 'utf8')) as {
  samples: GoldenSample[];
};
const question = 'I want to find a restaurant in San Jose.';

test('a newcomer opens the page, types, and chats with the demo model', async ({ page }) => {
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  await page.goto('/');
  await expect(page.getByTestId('load-progress')).toBeVisible();
  await page.getByTestId('composer').fill(question);
  await expect(page.getByTestId('status')).toHaveText('ready', { timeout: replyMs });
  await expect(page.getByTestId('load-progress')).toHaveCount(0);

  await page.evaluate(() => {
    const seen = new Set<string>();
    Object.assign(window, { seenTexts: seen });
    new MutationObserver(() => {
      const text = document.querySelector('[data-testid=message-assistant]')?.textContent;
      if (text) seen.add(text);
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
  });
  await page.getByTestId('composer').press('Enter');
  await expect(page.getByTestId('message-user')).toHaveText(question);
  await expect(page.getByTestId('send')).toHaveCount(0);
  const reply = await lastReply(page);
  expect(reply.trim()).not.toBe('');
  const seen = await page.evaluate(() => [...(window as unknown as { seenTexts: Set<string> }).seenTexts]);
  expect(seen.length).toBeGreaterThan(2);
  for (const text of seen) expect(reply.startsWith(text)).toBe(true);
  await expect(page.getByTestId('stats')).toHaveText(/\d+ tokens.*\d tok\/s.*first token after [\d.]+ m?s/);
  await expect(page.getByTestId('composer')).toBeFocused();

  await ask(page, 'Italian food, please.');
  await expect(page.getByTestId('message-assistant')).toHaveCount(2);
  await page.getByTestId('new-chat').click();
  await expect(page.getByTestId('message-user')).toHaveCount(0);
  await expect(page.getByTestId('suggestion')).not.toHaveCount(0);
  expect(problems).toEqual([]);
});

test('the float model answers word for word as the reference implementation does', async ({ page }) => {
  await openPage(page);
  await loadModel(page, 'demo-chat-8m-fp16');
  await setNumber(page, 'temperature', 0);
  const sample = golden.samples.find(({ user }) => user === question)!;
  expect((await ask(page, question)).trim()).toBe(sample.text.trim());
  await expect(page.getByTestId('model-facts')).toContainText('fp16');
});

test('Stop and Esc end a reply at once, and the next message is answered', async ({ page }) => {
  await openPage(page);
  await page.getByTestId('composer').fill(question);
  await page.getByTestId('composer').press('Enter');
  await page.getByTestId('stop').click();
  await expect(page.getByTestId('notice')).toHaveText('Stopped.');
  await expect(page.getByTestId('composer')).toBeFocused();

  await page.getByTestId('composer').fill(question);
  await page.getByTestId('composer').press('Enter');
  await expect(page.getByTestId('stop')).toBeVisible(); // the demo's replies are too short to wait for their text
  await page.keyboard.press('Escape');
  await expect(page.getByTestId('stop')).toHaveCount(0);

  expect((await ask(page, question)).trim()).not.toBe('');
  await expect(page.getByTestId('notice')).toHaveCount(2);
});

test('the keyboard: Shift+Enter begins a line, an input method keeps its Enter', async ({ page }) => {
  await openPage(page);
  const composer = page.getByTestId('composer');
  await composer.pressSequentially('Hi');
  await composer.press('Shift+Enter');
  await composer.pressSequentially('there');
  await expect(composer).toHaveValue('Hi\nthere');
  await composer.dispatchEvent('keydown', { key: 'Enter', isComposing: true });
  await expect(composer).toHaveValue('Hi\nthere');
  await setNumber(page, 'maxTokens', 1);
  await composer.press('Enter');
  await expect(page.getByTestId('message-user')).toHaveText('Hi\nthere', { useInnerText: true });
  await lastReply(page);
  await expect(page.getByTestId('notice')).toHaveText('Ended at the limit of 1 token (see Settings).');
});

test('what a model or a person writes is shown as text, never as HTML', async ({ page }) => {
  await openPage(page);
  await setNumber(page, 'maxTokens', 1);
  const text = '<img src=x onerror="document.title=\'run\'"><b>Hi</b>';
  await ask(page, text);
  await expect(page.getByTestId('message-user')).toHaveText(text);
  await expect(page).toHaveTitle('MergeQuant Web');
});

test('a conversation that outgrows the context is told so', async ({ page }) => {
  await openPage(page);
  const long = 'I want to find a restaurant in San Jose. '.repeat(120);
  await ask(page, long);
  const notice = page.getByTestId('notice');
  await expect(notice).toContainText(
    /too long for this model: the prompt has \d+ tokens, the context holds 1024/,
  );
  await ask(page, long);
  await expect(notice.last()).toContainText(
    /no longer fits into the model’s context: the prompt has \d+ tokens, the context holds \d+\./,
  );
  await page.getByRole('button', { name: 'Start a new chat' }).click();
  await expect(page.getByTestId('message-user')).toHaveCount(0);
});
