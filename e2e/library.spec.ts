import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from '@playwright/test';
import { build, type PreviewServer, preview } from 'vite';
import { replyMs } from './support';

/** The package as npm would publish it, installed in a project that knows nothing of this one. */
let project: string;
let server: PreviewServer | undefined;

const consumer = `
import { createEngine, type ChatCompletionChunk, type CompletionLogprobs, RequestError } from 'mergequant-web';

const model = new URLSearchParams(location.search).get('model')!;
const status = document.getElementById('status')!;
const phases = new Set<string>();
const engine = await createEngine({ model, contextLength: 256, onProgress: ({ phase }) => phases.add(phase) });
const messages = [{ role: 'user' as const, content: 'I want to find a restaurant in San Jose.' }];
const ask = { messages, temperature: 0, max_tokens: 8 };
const whole = await engine.chat.completions.create(ask);
const chunks: ChatCompletionChunk[] = [];
for await (const chunk of await engine.chat.completions.create({ ...ask, stream: true })) chunks.push(chunk);
for await (const chunk of await engine.chat.completions.create({ ...ask, stream: true })) {
  if (chunk.choices[0]?.delta.content) break;
}
const after = (await engine.chat.completions.create(ask)).choices[0].message.content;
const abort = new AbortController();
const aborted = engine.chat.completions.create({ ...ask, max_tokens: 200, temperature: 2 }, { signal: abort.signal });
setTimeout(() => abort.abort(), 50);
const cut = await aborted.catch((error: Error) => error.name);
const refused = await engine.chat.completions.create(ask, { signal: abort.signal }).catch((error: Error) => error.name);
const json = await engine.chat.completions.create({
  ...ask, max_tokens: 80, response_format: { type: 'json_object' }, logit_bias: { 37: 30, 128: 30 }, // byte tokens of quote and brace
});
const scored = await engine.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
const scoredChunks: ChatCompletionChunk[] = [];
const scoring = { ...ask, logprobs: true, top_logprobs: 2, stream: true as const };
for await (const chunk of await engine.chat.completions.create(scoring)) scoredChunks.push(chunk);
const tokensOf = (logprobs: CompletionLogprobs | null | undefined) => (logprobs?.content ?? []).map(({ token }) => token).join('');
const logprobs = tokensOf(scored.choices[0].logprobs);
const streamedLogprobs = scoredChunks.map(({ choices }) => tokensOf(choices[0]?.logprobs)).join('');
const bias = await engine.chat.completions.create({ ...ask, logit_bias: { 99999: 1 } }).catch((error: Error) => error.name);
const wrong = await engine.chat.completions.create({ ...ask, n: 2 }).catch((error) => error instanceof RequestError);
engine.destroy();
const gone = await engine.chat.completions.create(ask).catch((error: Error) => error.name);
const streamed = chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('');
const text = whole.choices[0].message.content;
const jsonReply = { content: json.choices[0].message.content, reason: json.choices[0].finish_reason };
Object.assign(window, { result: { jsonReply, logprobs, streamedLogprobs, bias, text, streamed, tokens: whole.usage.completion_tokens, phases: [...phases], after, cut, refused, wrong, gone } });
status.textContent = 'done';
`;

const tsconfig = {
  compilerOptions: {
    target: 'ES2022',
    module: 'ESNext',
    moduleResolution: 'Bundler',
    lib: ['ES2022', 'DOM', 'DOM.Iterable'],
    types: [],
    strict: true,
    skipLibCheck: true,
    noEmit: true,
  },
  files: ['main.ts'],
};

test.beforeAll(async () => {
  project = mkdtempSync(join(tmpdir(), 'mergequant-consumer-'));
  const npm = (cwd: string, ...args: string[]) => execFileSync('npm', args, { cwd, stdio: 'pipe' });
  npm('.', 'pack', '--pack-destination', project);
  const [tarball] = readdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }');
  npm(project, 'install', '--prefer-offline', '--no-audit', '--no-fund', `./${tarball}`);
  writeFileSync(join(project, 'main.ts'), consumer);
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify(tsconfig));
  writeFileSync(
    join(project, 'index.html'),
    '<!doctype html><p id="status">loading</p><script type="module" src="/main.ts"></script>',
  );
  await build({
    root: project,
    configFile: false,
    logLevel: 'warn',
    build: { target: 'es2022' },
    worker: { format: 'es' },
  });
  // The page without a build, beside the built one.
  mkdirSync(join(project, 'dist/plain'), { recursive: true });
  cpSync('examples/minimal/index.html', join(project, 'dist/plain/index.html'));
  cpSync(join(project, 'node_modules/mergequant-web'), join(project, 'dist/node_modules/mergequant-web'), {
    recursive: true,
  });
  server = await preview({ root: project, configFile: false, logLevel: 'error', preview: { port: 0 } });
});

test.afterAll(async () => {
  await server?.close();
  rmSync(project, { recursive: true, force: true });
});

function address(path: string, baseURL: string | undefined): string {
  const model = new URL('models/demo-chat-8m-w4a4/', baseURL).href;
  return new URL(`${path}?model=${encodeURIComponent(model)}`, server!.resolvedUrls!.local[0]).href;
}

test('a Vite project with the packed library chats, streams, aborts, and gets typed errors', async ({
  page,
  baseURL,
}) => {
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  await page.goto(address('', baseURL));
  await expect(page.locator('#status')).toHaveText('done', { timeout: replyMs });
  const result = await page.evaluate(() => (window as unknown as { result: Record<string, unknown> }).result);
  expect(result).toMatchObject({
    after: result.text,
    cut: 'AbortError',
    refused: 'AbortError',
    wrong: true,
    gone: 'WorkerDiedError',
    jsonReply: { reason: 'stop' },
    bias: 'LogitBiasError',
    streamedLogprobs: result.logprobs,
  });
  expect(JSON.parse((result.jsonReply as { content: string }).content)).toBeInstanceOf(Object);
  expect(String(result.logprobs).trim()).toBe(String(result.text).trim());
  expect(result.streamed).toBe(result.text);
  expect(String(result.text).trim()).not.toBe('');
  expect(result.tokens).toBeGreaterThan(1);
  expect(result.phases).toContain('download');
  expect(problems).toEqual([]);
});

test('a plain page without any build streams a reply', async ({ page, baseURL }) => {
  await page.goto(address('plain/', baseURL));
  await expect(page.locator('#status')).toHaveText('done', { timeout: replyMs });
  await expect(page.locator('#reply')).not.toHaveText('');
});

test('its types hold in a strict project, and its command runs', () => {
  const run = (command: string, ...args: string[]) =>
    execFileSync(command, args, { cwd: project, encoding: 'utf8', stdio: 'pipe' });
  run(resolve('node_modules/.bin/tsc'), '-p', '.');
  const help = run('node_modules/.bin/mergequant', '--help');
  for (const command of ['prepare', 'generate', 'serve']) expect(help).toContain(command);
  expect(readdirSync(join(project, 'node_modules'))).not.toContain('webgpu');
});
