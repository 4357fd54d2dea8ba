/** Artifacts and replies made by an enemy: nothing of them runs, nothing leaves the page (docs/FAULTS.md). */
import { readFileSync } from 'node:fs';
import { expect } from '@playwright/test';
import { beforeWorker, open, test } from './fault-support';
import { ask, expectReady } from './support';

const poisoned = JSON.parse(readFileSync('e2e/poisoned-replies.json', 'utf8')) as Record<string, string>;

test('poisoned replies: no script, handler, javascript: link or remote image survives, nothing is requested', async ({
  page,
  context,
  server,
}) => {
  // the worker says what the test tells it to, whatever the model says
  await beforeWorker(
    page,
    `let said = ''; new BroadcastChannel('test').onmessage = ({ data }) => { said = data; };
     const send = self.postMessage.bind(self);
     self.postMessage = (message, ...rest) => {
       const reply = message?.value?.value;
       if (typeof reply?.text === 'string') reply.text = said;
       send(message, ...rest);
     };`,
  );
  const problems: string[] = [];
  page.on('dialog', (dialog) => {
    problems.push(`dialog ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('popup', (popup) => problems.push(`popup ${popup.url()}`));
  await open(page);
  const own = new Set([new URL(page.url()).origin, new URL(server.url).origin]);
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'data:' && !own.has(url.origin)) problems.push(`request ${url}`);
  });
  for (const [name, text] of Object.entries(poisoned)) {
    await page.evaluate((said) => new BroadcastChannel('test').postMessage(said), text);
    await ask(page, 'Hi');
    const found = await page
      .getByTestId('message-assistant')
      .last()
      .evaluate((message) => {
        const all = [...message.querySelectorAll('*')];
        const bad =
          'script, iframe, object, embed, form, base, meta, link, style, svg:not(.icon), math, audio, video';
        return {
          elements: [...message.querySelectorAll(bad)].map(({ outerHTML }) => outerHTML),
          handlers: all
            .flatMap(({ attributes }) => [...attributes].map((a) => a.name))
            .filter((a) => /^on/i.test(a)),
          links: [...message.querySelectorAll('a')]
            .map(({ href }) => href)
            .filter((href) => !/^(https?|mailto):/.test(href)),
          images: [...message.querySelectorAll('img')]
            .map(({ src }) => src)
            .filter((src) => !src.startsWith('data:')),
        };
      });
    expect(found, name).toEqual({ elements: [], handlers: [], links: [], images: [] });
    await page.getByTestId('new-chat').first().click();
  }
  await expect(page).toHaveTitle(/MergeQuant/);
  expect(problems).toEqual([]);
});

test('the policy forbids everything but what the page needs', async ({ page, server }) => {
  const response = await page.goto('/');
  const policy = response!.headers()['content-security-policy']!;
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain('unsafe');
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
  expect(server.url).toContain('127.0.0.1');
  const blocked = await page.evaluate(async () => {
    const violations: string[] = [];
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) =>
      violations.push(effectiveDirective),
    );
    const script = document.createElement('script');
    script.textContent = 'document.title = "run"';
    document.head.append(script);
    const image = document.createElement('img');
    image.src = 'https://example.org/pixel.png';
    document.body.append(image);
    const frame = document.createElement('iframe');
    frame.src = 'https://example.org/';
    document.body.append(frame);
    document.body.setAttribute('onclick', 'document.title = "run"');
    document.body.click();
    await fetch('http://example.org/').catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 200));
    return [...new Set(violations)].sort();
  });
  expect(blocked).toEqual(['connect-src', 'frame-src', 'img-src', 'script-src-attr', 'script-src-elem']);
  await expect(page).toHaveTitle(/MergeQuant/);
});

test.describe('a chat template that never ends', () => {
  const endless =
    '{% for a in range(30000) %}{% for b in range(30000) %}{% for c in range(30000) %}{% endfor %}{% endfor %}{% endfor %}';
  test.use({ options: { template: endless } });

  test('is ended by the heartbeat, with words', async ({ page, server }) => {
    test.slow();
    expect(server.url).toContain('127.0.0.1');
    await open(page);
    await page.getByTestId('composer').fill('Hi');
    await page.getByTestId('send').click();
    await expect(page.getByTestId('notice').last()).toContainText('has not answered for', {
      timeout: 60_000,
    });
    await expectReady(page);
  });
});

test('an insecure page says what it needs', async ({ page, server }) => {
  expect(server.url).toContain('127.0.0.1');
  await beforeWorker(page, "Object.defineProperty(self, 'isSecureContext', { value: false });");
  await page.goto('/');
  await expect(page.getByRole('heading', { name: 'This page needs a secure connection' })).toBeVisible();
});
