/** The library in Node on the bundled demo model: what a request may ask besides text. */
import type { AddressInfo } from 'node:net';
import { afterAll, describe, expect, test } from 'vitest';
import type { ChatCompletionChunk, ChatCompletionRequest } from '../src/api/openai-types';
import { dead, JsonAutomaton } from '../src/chat/json-automaton';
import { createHttpServer } from './http-server';
import { createEngine } from './node-engine';

describe('chat.completions on the demo model', async () => {
  const engine = await createEngine({ model: 'public/models/demo-chat-8m-w4a4', contextLength: 512 });
  afterAll(() => engine.destroy());
  const messages = [{ role: 'user' as const, content: 'I want to find a restaurant in San Jose.' }];
  const ask = (request: Partial<ChatCompletionRequest>) =>
    engine.chat.completions.create({ messages, max_tokens: 12, temperature: 0, ...request, stream: false });

  test.each([
    { name: 'greedy', temperature: 0 },
    { name: 'seed 1, hot', temperature: 2, seed: 1 },
    { name: 'seed 2, filtered and penalized', temperature: 1, seed: 2, top_k: 20, repetition_penalty: 1.2 },
  ])(
    'JSON mode, $name: an object when it stops, the beginning of one when it is cut',
    async ({ name: _, ...how }) => {
      const format = { response_format: { type: 'json_object' as const } };
      const cut = (await ask({ ...how, ...format, max_tokens: 16 })).choices[0];
      const automaton = new JsonAutomaton();
      const state = new TextEncoder()
        .encode(cut.message.content)
        .reduce((before, byte) => automaton.step(before, byte), automaton.start);
      expect(cut.message.content).toMatch(/^\s?\{./);
      expect(state).not.toBe(dead);
      // Closing is made attractive: this model never saw JSON and would go on to the end of its context.
      const close = Object.fromEntries(closers.map((id) => [id, 30]));
      const whole = (await ask({ ...how, ...format, max_tokens: 80, logit_bias: close })).choices[0];
      expect(whole.finish_reason).toBe('stop');
      expect(JSON.parse(whole.message.content)).toBeInstanceOf(Object);
    },
  );

  test('the same over HTTP, with refusals in OpenAI’s shape', async () => {
    const server = createHttpServer({ completions: engine.chat.completions });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const post = (body: object) =>
      fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ messages, temperature: 0, max_tokens: 80, ...body }),
      });
    const logit_bias = Object.fromEntries(closers.map((id) => [id, 30]));
    const format = { response_format: { type: 'json_object' } };
    const reply = await (await post({ ...format, logit_bias, logprobs: true, top_logprobs: 1 })).json();
    const { message, finish_reason, logprobs } = reply.choices[0];
    expect(finish_reason).toBe('stop');
    expect(JSON.parse(message.content)).toBeInstanceOf(Object);
    expect(
      logprobs.content
        .map(({ token }: { token: string }) => token)
        .join('')
        .trim(),
    ).toBe(message.content.trim());
    const refused = await post({ logit_bias: { 2048000: 1 } });
    expect(refused.status).toBe(400);
    expect((await refused.json()).error).toMatchObject({
      ...{ type: 'invalid_request_error', param: 'logit_bias', code: 'LogitBiasError' },
    });
    server.close();
  });

  test('the reply after one in JSON mode is free again', async () => {
    const before = (await ask({})).choices[0].message.content;
    await ask({ response_format: { type: 'json_object' } });
    expect((await ask({})).choices[0].message.content).toBe(before);
  });

  test('log-probabilities: streamed and whole alike, bytes that make the text, probabilities below 1', async () => {
    const request = { messages, max_tokens: 12, temperature: 0, logprobs: true, top_logprobs: 20 };
    const whole = await engine.chat.completions.create(request);
    const { content } = whole.choices[0].logprobs!;
    expect(content.length).toBe(whole.usage.completion_tokens - 1); // all but the stop token
    expect(content.length).toBeGreaterThan(5);
    const text = new TextDecoder().decode(Uint8Array.from(content.flatMap(({ bytes }) => bytes ?? [])));
    expect(text.trimStart()).toBe(whole.choices[0].message.content);
    for (const { token, logprob, top_logprobs } of content) {
      expect(top_logprobs[0]).toMatchObject({ token, logprob }); // greedy
      const mass = top_logprobs.reduce((sum, one) => sum + Math.exp(one.logprob), 0);
      expect(mass).toBeGreaterThan(0.2);
      expect(mass).toBeLessThan(1);
      expect(top_logprobs.length).toBe(20);
    }
    const chunks: ChatCompletionChunk[] = [];
    for await (const chunk of await engine.chat.completions.create({ ...request, stream: true })) {
      chunks.push(chunk);
    }
    expect(chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? [])).toEqual(content);
  });

  test('the end of the reply, forbidden by a bias, is still what the model finds most probable, by name', async () => {
    const hi = [{ role: 'user' as const, content: 'Hi' }];
    const free = await ask({ messages: hi, max_tokens: 64 });
    expect(free.choices[0].finish_reason).toBe('stop');
    const length = free.usage.completion_tokens;
    const endless = { logit_bias: { 2: -100 }, logprobs: true, top_logprobs: 1 };
    const { choices } = await ask({ messages: hi, max_tokens: length, ...endless });
    expect(choices[0].finish_reason).toBe('length');
    const last = choices[0].logprobs!.content.at(-1)!;
    expect(last.top_logprobs).toEqual([{ token: '</s>', bytes: null, logprob: expect.any(Number) }]);
    expect(last.logprob).toBeLessThan(last.top_logprobs[0]!.logprob);
  });

  test('a bias forbids what greedy decoding would say, by the id that the tokenizer gives', async () => {
    const free = await ask({ logprobs: true });
    const first = free.choices[0].logprobs!.content[0]!.token;
    const ids = Object.fromEntries(Array.from({ length: 2048 }, (_, id) => [id, -100]));
    const digit = 3 + '7'.charCodeAt(0); // byte tokens follow <unk>, <s>, </s>
    const forced = await ask({ logit_bias: { ...ids, [digit]: 100 }, max_tokens: 5 });
    expect(forced.choices[0].message.content).toBe('77777');
    expect(first).not.toBe('7');
    await expect(ask({ logit_bias: { 99999: 1 } })).rejects.toMatchObject({
      name: 'LogitBiasError',
      param: 'logit_bias',
    });
  });
});

/** Byte tokens of `"`, `}` and `]` in the demo model. */
const closers = [...'"}]'].map((character) => 3 + character.charCodeAt(0));
