import { describe, expect, test } from 'vitest';
import type { OnDelta } from '../chat/text-generator';
import type { TextLogprobs } from '../chat/text-logprobs';
import type { ReplyStats } from '../engine/types';
import { type EngineRequest, parseChatRequest, RequestError } from './chat-request';
import { type ChatBackend, ChatCompletions } from './completions';
import type { ChatCompletionChunk } from './openai-types';

const stats = { promptTokens: 5, cachedTokens: 2, replyTokens: 3 } as ReplyStats;
const defaults = { contextLength: 64, sampling: { temperature: 0.6, topP: 0.9 } };
const messages = [{ role: 'user' as const, content: 'Hi' }];

/** A token as likely as not; the first of the others is impossible. */
function logprobOf(token: string, others: number): TextLogprobs {
  const one = { token, logprob: Math.log(0.5), bytes: [token.charCodeAt(0)] };
  const impossible = { token: '</s>', logprob: -Infinity, bytes: null };
  return { ...one, top: [one, impossible].slice(0, others) };
}

/** Says "a", "b", "c", a moment apart, until it is told to stop. */
class Speaker implements ChatBackend {
  readonly modelName = 'speaker';
  readonly defaults = defaults;
  readonly requests: EngineRequest[] = [];
  running = 0;

  async chat(request: EngineRequest, onDelta: OnDelta, signal: AbortSignal) {
    expect(++this.running).toBe(1);
    this.requests.push(request);
    const logprobs: TextLogprobs[] = [];
    let text = '';
    for (const letter of ['a', 'b', 'c']) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (signal.aborted) break;
      text += letter;
      if (request.topLogprobs === null) onDelta(letter);
      else {
        logprobs.push(logprobOf(letter, request.topLogprobs));
        onDelta(letter, logprobs.slice(-1));
      }
    }
    this.running--;
    const finishReason = signal.aborted ? ('cancelled' as const) : ('stop' as const);
    return { text, finishReason, stats, ...(request.topLogprobs === null ? {} : { logprobs }) };
  }
}

async function collect(stream: AsyncIterable<ChatCompletionChunk>): Promise<ChatCompletionChunk[]> {
  const chunks: ChatCompletionChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

describe('create', () => {
  test('a whole reply has message, finish reason and usage', async () => {
    const reply = await new ChatCompletions(new Speaker()).create({ messages });
    expect(reply).toMatchObject({
      object: 'chat.completion',
      model: 'speaker',
      choices: [{ message: { role: 'assistant', content: 'abc' }, finish_reason: 'stop' }],
      usage: {
        prompt_tokens: 5,
        completion_tokens: 3,
        total_tokens: 8,
        prompt_tokens_details: { cached_tokens: 2 },
      },
    });
  });

  test('a stream has the role first, the text, the finish reason, and the usage when asked', async () => {
    const completions = new ChatCompletions(new Speaker());
    const chunks = await collect(
      await completions.create({ messages, stream: true, stream_options: { include_usage: true } }),
    );
    expect(chunks[0]!.choices[0]!.delta).toEqual({ role: 'assistant', content: '' });
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('abc');
    expect(chunks.at(-2)!.choices[0]!.finish_reason).toBe('stop');
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 8 } });
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
  });

  test('log-probabilities, whole and streamed, in the interface’s shape and as JSON', async () => {
    const completions = new ChatCompletions(new Speaker());
    const ask = { messages, logprobs: true, top_logprobs: 2 };
    const whole = (await completions.create(ask)).choices[0].logprobs;
    const a = { token: 'a', logprob: Math.log(0.5), bytes: [97] };
    expect(whole!.refusal).toBeNull();
    expect(whole!.content.length).toBe(3);
    const impossible = { token: '</s>', logprob: -9999, bytes: null };
    expect(whole!.content[0]).toEqual({ ...a, top_logprobs: [a, impossible] });
    expect(JSON.parse(JSON.stringify(whole))).toEqual(whole);
    const chunks = await collect(await completions.create({ ...ask, stream: true }));
    expect(chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? [])).toEqual(whole!.content);
    const none = await completions.create({ messages, logprobs: true });
    expect(none.choices[0].logprobs!.content.map(({ top_logprobs }) => top_logprobs)).toEqual([[], [], []]);
    expect((await completions.create({ messages, logprobs: false })).choices[0].logprobs).toBeNull();
  });

  test('requests wait for each other', async () => {
    const completions = new ChatCompletions(new Speaker());
    const replies = await Promise.all([completions.create({ messages }), completions.create({ messages })]);
    expect(replies.map(({ choices }) => choices[0].message.content)).toEqual(['abc', 'abc']);
  });

  test('leaving the loop ends the reply, and the next one is answered', async () => {
    const speaker = new Speaker();
    const completions = new ChatCompletions(speaker);
    for await (const chunk of await completions.create({ messages, stream: true })) {
      if (chunk.choices[0]?.delta.content === 'a') break;
    }
    expect((await completions.create({ messages })).choices[0].message.content).toBe('abc');
    expect(speaker.requests.length).toBe(2);
  });

  test('a signal ends a reply and a wait with its reason', async () => {
    const completions = new ChatCompletions(new Speaker());
    const abort = new AbortController();
    const first = completions.create({ messages }, { signal: abort.signal });
    const second = completions.create({ messages }, { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(first).rejects.toThrow('enough');
    await expect(second).rejects.toThrow('enough');
    await expect(completions.create({ messages }, { signal: abort.signal })).rejects.toThrow('enough');
  });

  test('an error of the engine ends the stream with it', async () => {
    const backend: ChatBackend = {
      modelName: 'broken',
      defaults,
      chat: () => Promise.reject(new Error('lost')),
    };
    const stream = await new ChatCompletions(backend).create({ messages, stream: true });
    await expect(collect(stream)).rejects.toThrow('lost');
  });
});

describe('parseChatRequest', () => {
  test('what a request leaves out comes from the model, then from the interface', () => {
    const { sampling, maxTokens } = parseChatRequest({ messages, top_p: 0.5, seed: -1 }, defaults);
    expect(sampling).toMatchObject({ temperature: 0.6, topP: 0.5, topK: 0, seed: 0xffffffff });
    expect(maxTokens).toBe(64);
    expect(parseChatRequest({ messages }, { contextLength: 8, sampling: {} }).sampling.temperature).toBe(1);
  });

  test('parts are joined, developer is system, a stop string may be one', () => {
    const parts = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ];
    const request = { messages: [{ role: 'developer', content: parts }], stop: 'x', max_tokens: 3 };
    expect(parseChatRequest(request, defaults)).toMatchObject({
      messages: [{ role: 'system', content: 'ab' }],
      stop: ['x'],
      maxTokens: 3,
    });
  });

  test('bias, log-probabilities and JSON mode in the engine’s words', () => {
    const request = { messages, logprobs: true, top_logprobs: 20, logit_bias: { 15: -100, 7: 0.5 } };
    const format = { response_format: { type: 'json_object' } };
    expect(parseChatRequest({ ...request, ...format }, defaults)).toMatchObject({
      ...{ topLogprobs: 20, logitBias: { 15: -100, 7: 0.5 }, json: true },
    });
    expect(parseChatRequest({ messages }, defaults)).toMatchObject({
      ...{ topLogprobs: null, logitBias: {}, json: false },
    });
    const off = { messages, logprobs: null, top_logprobs: null, logit_bias: null, stop: [] };
    expect(() => parseChatRequest({ ...off, ...format }, defaults)).not.toThrow();
  });

  test.each([
    ['no messages', {}, 'messages'],
    ['an empty list', { messages: [] }, 'messages'],
    ['an unknown role', { messages: [{ role: 'robot', content: '' }] }, 'messages.0.role'],
    ['a picture', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages.0.content'],
    ['a temperature of 3', { messages, temperature: 3 }, 'temperature'],
    ['half a token', { messages, max_tokens: 0.5 }, 'max_tokens'],
    ['two replies', { messages, n: 2 }, 'n'],
    ['a JSON schema', { messages, response_format: { type: 'json_schema' } }, 'response_format.type'],
    ['JSON cut by a stop string', { messages, response_format: { type: 'json_object' }, stop: '}' }, 'stop'],
    ['a number of log-probabilities', { messages, logprobs: 5 }, 'logprobs'],
    ['21 of them', { messages, logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    ['some of them without asking', { messages, top_logprobs: 3 }, 'top_logprobs'],
    ['a bias over 100', { messages, logit_bias: { 5: 101 } }, 'logit_bias.5'],
    ['a bias that is no number', { messages, logit_bias: { 5: '1' } }, 'logit_bias.5'],
    ['a bias of a word', { messages, logit_bias: { hello: 1 } }, 'logit_bias.hello'],
    ['a list of biases', { messages, logit_bias: [[5, 1]] }, 'logit_bias'],
    ['tools', { messages, tools: [] }, 'tools'],
    ['no object', 'hello', ''],
  ])('%s is refused by name', (_, request, param) => {
    expect(() => parseChatRequest(request, defaults)).toThrow(RequestError);
    expect(() => parseChatRequest(request, defaults)).toThrow(expect.objectContaining({ param }));
  });
});
