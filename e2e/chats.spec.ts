import { readFileSync } from 'node:fs';
import { expect, type Page, test } from '@playwright/test';
import { ask, lastReply, openPage, setNumber } from './support';

const markdown = [
  '# Title',
  '**bold** and [a link](https://example.org) and [a trap](javascript:alert(1))',
  '```js\nlet a = 1;\n```',
  '<b>no element</b> ![picture](https://example.org/x.png)',
].join('\n\n');

/** An exported file with one conversation. */
function exported(text: string, id = 'imported') {
  const turn = { user: 'Show it', model: 'demo', text, finishReason: 'stop', error: null, stats: null };
  const chat = { id, title: 'Imported chat', createdMs: 1, updatedMs: 2, settings: {}, turns: [turn] };
  const buffer = Buffer.from(JSON.stringify({ format: 'mergequant-chats', version: 1, chats: [chat] }));
  return { name: 'chats.json', mimeType: 'application/json', buffer };
}

async function importChat(page: Page, text: string): Promise<void> {
  await page.getByTestId('import-chats').setInputFiles(exported(text));
  await page.getByRole('button', { name: 'Imported chat', exact: true }).click();
}

test.beforeEach(async ({ page }) => {
  await page.setViewportSize({ width: 1280, height: 800 });
});

test('chats are kept, named, found, and deleted', async ({ page }) => {
  await openPage(page);
  await setNumber(page, 'maxTokens', 2);
  await ask(page, 'Hello from the first chat');
  await page.getByTestId('new-chat').click();
  await ask(page, 'A second conversation');
  await expect(page.getByTestId('chat-item')).toHaveText([
    /A second conversation/,
    /Hello from the first chat/,
  ]);

  await page.reload();
  await page.getByRole('button', { name: 'Hello from the first chat', exact: true }).click();
  await expect(page.getByTestId('message-user')).toHaveText('Hello from the first chat');
  await expect(page.getByTestId('stats')).toContainText('2 tokens');

  await page.getByRole('button', { name: 'Rename Hello from the first chat' }).click();
  await page.getByTestId('chat-title').fill('Greeting');
  await page.getByTestId('chat-title').press('Enter');
  await expect(page.getByRole('button', { name: 'Rename Greeting' })).toBeFocused();
  await page.getByTestId('chat-search').fill('first CHAT');
  await expect(page.getByTestId('chat-item')).toHaveText([/Greeting/]);
  await page.getByTestId('chat-search').fill('');

  await page.getByRole('button', { name: 'Delete Greeting' }).click();
  await page.getByTestId('confirm-yes').click();
  await expect(page.getByTestId('message-user')).toHaveCount(0);
  await expect(page.getByTestId('chat-item')).toHaveText([/A second conversation/]);
  await expect(page.getByRole('complementary', { name: 'Chats' })).toBeFocused();
  await page.getByTestId('delete-all-chats').click();
  await page.getByTestId('confirm-yes').click();
  await page.reload();
  await expect(page.getByTestId('chat-search')).toBeVisible();
  await expect(page.getByTestId('chat-item')).toHaveCount(0);
  await page.setViewportSize({ width: 390, height: 800 });
  await expect(page.getByTestId('chat-search')).toHaveCount(0); // it would cover the chat
  await page.setViewportSize({ width: 1280, height: 800 });
  await expect(page.getByTestId('chat-search')).toBeVisible();
});

test('settings belong to a chat; a reload in the middle of a reply keeps them, what was written and the draft', async ({
  page,
}) => {
  await openPage(page);
  await setNumber(page, 'maxTokens', 1);
  await setNumber(page, 'seed', 7);
  await ask(page, 'One');
  await page.getByTestId('new-chat').click();
  await setNumber(page, 'seed', 8);
  await setNumber(page, 'temperature', 0);
  await setNumber(page, 'frequencyPenalty', -2); // such a reply goes on to its limit
  await setNumber(page, 'maxTokens', 600);
  await page.getByTestId('composer').fill('Tell me a story about trains');
  await page.getByTestId('composer').press('Enter');
  const written = page.getByTestId('message-assistant');
  await expect(written).toHaveText(/.{20}/);
  await page.getByTestId('composer').fill('Not sent yet');
  await page.waitForTimeout(1000); // a reply being written is stored so often
  await page.reload();
  await expect(page.getByTestId('composer')).toHaveValue('Not sent yet');
  await page.getByTestId('settings-toggle').click();
  await expect(page.getByTestId('setting-seed')).toHaveValue('8'); // a new chat begins with the last settings
  await page.getByRole('button', { name: 'One', exact: true }).click();
  await expect(page.getByTestId('setting-seed')).toHaveValue('7');
  await page.getByRole('button', { name: 'Tell me a story about trains', exact: true }).click();
  await expect(written).toHaveText(/.{20}/);
  await expect(page.getByTestId('notice')).toHaveText('Stopped.');
});

test('a reply can be asked for again, and a message said differently', async ({ page }) => {
  await openPage(page);
  await setNumber(page, 'temperature', 0);
  await setNumber(page, 'maxTokens', 8);
  const first = await ask(page, 'Who are you?');
  await ask(page, 'And then?');
  await page.getByTestId('regenerate').click();
  await lastReply(page);
  await expect(page.getByTestId('message-user')).toHaveText(['Who are you?', 'And then?']);

  await page.getByTestId('message-user').first().hover();
  await page.getByTestId('edit').first().click();
  await expect(page.getByTestId('edit-field')).toHaveValue('Who are you?');
  await page.getByTestId('edit-field').press('Escape');
  await expect(page.getByTestId('edit').first()).toBeFocused();
  await page.getByTestId('edit').first().click();
  await page.getByTestId('edit-field').press('Enter');
  expect(await lastReply(page)).toBe(first);
  await expect(page.getByTestId('message-user')).toHaveText(['Who are you?']);
  await expect(page.getByTestId('context-meter')).toContainText('of 1,024 tokens');
});

test('Markdown becomes elements; markup, scripts and pictures stay harmless', async ({ page, context }) => {
  const outside: string[] = [];
  context.on('request', (request) => {
    if (new URL(request.url()).hostname !== 'localhost') outside.push(request.url());
  });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await openPage(page);
  await importChat(page, markdown);
  const reply = page.getByTestId('message-assistant');
  await expect(reply.locator('strong')).toHaveText('bold');
  await expect(reply.getByRole('link', { name: 'a link' })).toHaveAttribute('rel', /noopener/);
  await expect(reply.getByRole('link', { name: 'a trap' })).toHaveCount(0);
  await expect(reply).toContainText('<b>no element</b>');
  await expect(reply.locator('img, b')).toHaveCount(0);
  await reply.getByRole('button', { name: 'Copy code' }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('let a = 1;');
  expect(outside).toEqual([]);
});

test('what is exported can be imported; other files are refused', async ({ page }) => {
  await openPage(page);
  await importChat(page, 'Kept words');
  const download = page.waitForEvent('download');
  await page.getByTestId('export-chats').click();
  const file = JSON.parse(readFileSync(await (await download).path(), 'utf8'));
  expect(file.chats[0].turns[0].text).toBe('Kept words');
  await page
    .getByTestId('import-chats')
    .setInputFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from('{}') });
  await expect(page.getByRole('alert')).toContainText('x.json: not a file of exported chats');
});

test('keys: new chat, search, Esc', async ({ page }) => {
  await openPage(page);
  await importChat(page, 'Some words');
  await page.keyboard.press('Control+k');
  await expect(page.getByTestId('chat-search')).toBeFocused();
  await page.keyboard.press('Control+Shift+o');
  await expect(page.getByTestId('message-user')).toHaveCount(0);
  await expect(page.getByTestId('composer')).toBeFocused();
  await page.getByTestId('manager-open').click();
  await page.keyboard.press('Escape');
  await expect(page.getByTestId('manager')).toHaveCount(0);
  await expect(page.getByTestId('manager-open')).toBeFocused();
});

test('with the keyboard alone: chat, settings, models, another chat', async ({ page }) => {
  await openPage(page);
  await expect(page.getByTestId('composer')).toBeFocused();
  await page.keyboard.type('Who are you?');
  await page.keyboard.press('Enter');
  await lastReply(page);
  /** Presses Tab until the element has the focus, as somebody without a mouse does. */
  const tabTo = async (testId: string, key = 'Shift+Tab') => {
    for (let presses = 0; presses < 40; presses++) {
      await page.keyboard.press(key);
      const focused = await page.evaluate(() => document.activeElement?.getAttribute('data-testid'));
      if (focused === testId) return;
    }
    throw new Error(`${testId} cannot be reached with ${key}`);
  };
  await tabTo('settings-toggle');
  await page.keyboard.press('Enter');
  await tabTo('system-prompt', 'Tab');
  await page.keyboard.type('Be brief.');
  await page.keyboard.press('Escape');
  await expect(page.getByTestId('settings-toggle')).toBeFocused();
  await tabTo('manager-open');
  await page.keyboard.press('Enter');
  await expect(page.getByTestId('manager')).toBeVisible();
  await page.keyboard.press('Escape');
  await tabTo('new-chat');
  await page.keyboard.press('Enter');
  await expect(page.getByTestId('composer')).toBeFocused();
  await expect(page.getByTestId('message-user')).toHaveCount(0);
});
