/** Artifacts and replies made by an enemy: nothing of them runs, nothing leaves the page (docs/FAULTS.md). */
import { readFileSync } from 'node:fs';
import { expect } from '@playwright/test';
import { beforeWorker, open, shortTokenizerDeadline, test } from './fault-support';
import { ask, expectReady, setNumber } from './support';

const poisoned = JSON.parse(readFileSync('e2e/poisoned-replies.json', 'utf8')) as Record<string, string>;

type WatchedWindow = Window & { stopWatching?: () => { rendered: number; found: string[] } };

/** In the page: looks at the last reply after every change of the document, until `stopWatching`. */
function watchReply(): void {
  const found = new Set<string>();
  const states = new Set<string>();
  const bad =
    'script, iframe, object, embed, form, base, meta, link, style, svg:not(.icon), math, audio, video';
  const look = () => {
    const message = [...document.querySelectorAll('[data-testid="message-assistant"]')].at(-1);
    if (!message) return;
    states.add(message.innerHTML);
    for (const { outerHTML } of message.querySelectorAll(bad)) found.add(outerHTML);
    for (const { attributes, outerHTML } of message.querySelectorAll('*'))
      if ([...attributes].some(({ name }) => /^on/i.test(name))) found.add(outerHTML);
    for (const { href } of message.querySelectorAll('a'))
      if (!/^(https?|mailto):/.test(href)) found.add(href);
    for (const { src } of message.querySelectorAll('img')) if (!src.startsWith('data:')) found.add(src);
  };
  const observer = new MutationObserver(look);
  observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  (window as WatchedWindow).stopWatching = () => {
    observer.disconnect();
    return { rendered: states.size, found: [...found] };
  };
}

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
  await setNumber(page, 'maxTokens', 1); // what the model itself would say is thrown away
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

test('poisoned replies character by character: half tags, links and fences are as harmless as whole ones', async ({
  page,
  context,
  server,
}) => {
  // one character a message, each after the page has rendered the one before
  await beforeWorker(
    page,
    `let said = ''; new BroadcastChannel('test').onmessage = ({ data }) => { said = data; };
     const post = MessagePort.prototype.postMessage;
     MessagePort.prototype.postMessage = function (message, ...rest) {
       const [delta, ...others] = message?.type === 'APPLY' ? message.argumentList : [];
       if (typeof delta?.value !== 'string') return post.call(this, message, ...rest);
       const pieces = [...said];
       said = '';
       if (pieces.length === 0) return post.call(this, { ...message, argumentList: [{ ...delta, value: '' }, ...others] });
       const next = () => {
         const value = pieces.shift();
         const id = pieces.length === 0 ? message.id : 'piece ' + pieces.length;
         post.call(this, { ...message, id, argumentList: [{ ...delta, value }, ...others] });
         if (pieces.length > 0) setTimeout(next, 4);
       };
       next();
     };`,
  );
  const problems: string[] = [];
  page.on('dialog', (dialog) => {
    problems.push(`dialog ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('popup', (popup) => problems.push(`popup ${popup.url()}`));
  await open(page);
  await setNumber(page, 'maxTokens', 3);
  const own = new Set([new URL(page.url()).origin, new URL(server.url).origin]);
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'data:' && !own.has(url.origin)) problems.push(`request ${url}`);
  });
  for (const [name, text] of Object.entries(poisoned)) {
    await page.evaluate((said) => new BroadcastChannel('test').postMessage(said), text);
    await page.evaluate(watchReply);
    await ask(page, 'Hi');
    const { rendered, found } = await page.evaluate(() => (window as WatchedWindow).stopWatching!());
    expect(found, name).toEqual([]);
    // invisible syntax changes nothing that is seen; most characters do
    expect(rendered, `states of "${name}" that were rendered`).toBeGreaterThan(Math.min(8, text.length / 4));
    await page.getByTestId('new-chat').first().click();
  }
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

  test('is stopped in its thread, with words; the model stays loaded', async ({ page, server }) => {
    expect(server.url).toContain('127.0.0.1');
    await beforeWorker(page, shortTokenizerDeadline);
    await open(page);
    server.requests.length = 0;
    for (let i = 0; i < 2; i++) {
      await page.getByTestId('composer').fill('Hi');
      await page.getByTestId('send').click();
      await expect(page.getByTestId('notice').nth(i)).toContainText(
        'chat template or tokenizer has not come to an end within 10 s and was stopped',
      );
      await expectReady(page);
    }
    expect(server.requests).toEqual([]); // nothing was loaded again
  });
});

test('an insecure page says what it needs', async ({ page, server }) => {
  expect(server.url).toContain('127.0.0.1');
  await beforeWorker(page, "Object.defineProperty(self, 'isSecureContext', { value: false });");
  await page.goto('/');
  await expect(page.getByRole('heading', { name: 'This page needs a secure connection' })).toBeVisible();
});
