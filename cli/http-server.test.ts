import { request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { EngineRequest } from '../src/api/chat-request';
import { type ChatBackend, ChatCompletions } from '../src/api/completions';
import { LogitBiasError } from '../src/engine/errors';
import type { ReplyStats } from '../src/engine/types';
import { createHttpServer, type ServerOptions } from './http-server';

const stats = { promptTokens: 4, cachedTokens: 0, replyTokens: 2 } as ReplyStats;
const body = { messages: [{ role: 'user', content: 'Hi' }] };

/** Says "Hello" and " you"; with `max_tokens` 7 it fails, with 9 it goes on until it is stopped. */
class Backend implements ChatBackend {
  readonly modelName = 'fake';
  readonly defaults = { contextLength: 64, sampling: {} };
  stopped = false;

  async chat(
    { maxTokens, logitBias }: Pick<EngineRequest, 'maxTokens' | 'logitBias'>,
    onDelta: (text: string) => void,
    signal: AbortSignal,
  ) {
    if (64 in logitBias) throw new LogitBiasError(64, 'a token of the vocabulary of 64', 64);
    if (maxTokens === 7) throw Object.assign(new Error('too long'), { name: 'ContextFullError' });
    onDelta('Hello');
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (maxTokens === 9) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      this.stopped = true;
    }
    onDelta(' you');
    return { text: 'Hello you', finishReason: 'stop' as const, stats };
  }
}

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

async function start(options: Omit<ServerOptions, 'completions'> = {}) {
  const backend = new Backend();
  server = createHttpServer({ completions: new ChatCompletions(backend), ...options });
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/v1`;
  const post = (content: unknown, headers: Record<string, string> = {}, init: RequestInit = {}) =>
    fetch(`${url}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof content === 'string' ? content : JSON.stringify(content),
      ...init,
    });
  return { backend, url, port, post };
}

test('models and a whole reply', async () => {
  const { url, post } = await start();
  expect(await (await fetch(`${url}/models`)).json()).toMatchObject({ data: [{ id: 'fake' }] });
  expect(await (await post(body)).json()).toMatchObject({
    choices: [{ message: { content: 'Hello you' }, finish_reason: 'stop' }],
    usage: { total_tokens: 6 },
  });
});

test('a stream is server-sent events that end with [DONE]', async () => {
  const { post } = await start();
  const response = await post({ ...body, stream: true });
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  const events = (await response.text()).trim().split('\n\n');
  expect(events.at(-1)).toBe('data: [DONE]');
  const chunks = events.slice(0, -1).map((event) => JSON.parse(event.replace(/^data: /, '')));
  expect(chunks.map(({ choices }) => choices[0].delta.content ?? '').join('')).toBe('Hello you');
});

test.each([
  ['no JSON', 'hello', {}, 400, null],
  ['a plain-text type, as web pages send without asking', '{}', { 'content-type': 'text/plain' }, 415, null],
  ['a bad parameter', { ...body, temperature: 9 }, {}, 400, 'temperature'],
  [
    'a format it does not know',
    { ...body, response_format: { type: 'xml' } },
    {},
    400,
    'response_format.type',
  ],
  ['too many log-probabilities', { ...body, logprobs: true, top_logprobs: 99 }, {}, 400, 'top_logprobs'],
  ['a bias of a token that is none', { ...body, logit_bias: { 64: 1 } }, {}, 400, 'logit_bias'],
  ['a conversation that does not fit', { ...body, max_tokens: 7 }, {}, 400, null],
])('%s is refused', async (_, content, headers, status, param) => {
  const { post } = await start();
  const response = await post(content, headers as Record<string, string>);
  expect(response.status).toBe(status);
  expect((await response.json()).error).toMatchObject({ type: 'invalid_request_error', param });
});

test('a client that leaves ends its reply', async () => {
  const { backend, post } = await start();
  const abort = new AbortController();
  const response = await post({ ...body, max_tokens: 9, stream: true }, {}, { signal: abort.signal });
  await response.body!.getReader().read();
  abort.abort();
  await expect.poll(() => backend.stopped).toBe(true);
});

test('a name that only points here is refused', async () => {
  const { port } = await start();
  const status = await new Promise((resolve) => {
    const headers = { host: 'evil.example' };
    httpRequest({ port, host: '127.0.0.1', path: '/v1/models', headers }, (response) => {
      resolve(response.statusCode);
    }).end();
  });
  expect(status).toBe(403);
});

test('a key is asked for; other origins are let in only when told to', async () => {
  const { url, post } = await start({ apiKey: 'secret', corsOrigin: 'https://app.example' });
  expect((await post(body)).status).toBe(401);
  const response = await post(body, { authorization: 'Bearer secret' });
  expect(response.status).toBe(200);
  expect(response.headers.get('access-control-allow-origin')).toBe('https://app.example');
  expect((await fetch(`${url}/chat/completions`, { method: 'OPTIONS' })).status).toBe(204);
  server!.close();
  const closed = await start();
  expect((await closed.post(body)).headers.get('access-control-allow-origin')).toBeNull();
  expect((await fetch(`${closed.url}/chat/completions`, { method: 'OPTIONS' })).status).toBe(404);
});
