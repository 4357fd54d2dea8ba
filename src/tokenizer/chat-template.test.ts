import { describe, expect, test } from 'vitest';
import type { ChatMessage } from './chat-template';
import { ChatTokenizer } from './chat-tokenizer';
import { ChatTemplateError } from './errors';
import { oracleOf } from './oracle.node';
import { llama3Files, sentencePieceFiles } from './testing';

const user = (content: string): ChatMessage => ({ role: 'user', content });
const assistant = (content: string): ChatMessage => ({ role: 'assistant', content });
const prompt = { addGenerationPrompt: true };

/** A template that looks into messages: drops the reasoning of earlier replies, counts, compares. */
const CURIOUS_TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{% set content = message['content'] %}{% if message['role'] == 'assistant' and '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>' }}{% if content.startswith('Hello') %}{{ '!' }}{% endif %}{{ content | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|><think>' }}{% endif %}";

const markup = [
  { content: '<think>', special: false, normalized: false },
  { content: '</think>', special: false, normalized: false },
];

const curiousFiles = llama3Files({ template: CURIOUS_TEMPLATE, extraTokens: markup });

const controlIds = (files: ReturnType<typeof llama3Files>, ids: readonly number[]) => {
  const added = files.tokenizer.added_tokens as { id: number; content: string }[];
  return ids.flatMap((id) => added.find((token) => token.id === id)?.content ?? []);
};

describe('a template that looks into messages', () => {
  const tokenizer = ChatTokenizer.create(curiousFiles);
  const turn = (role: string) => [
    '<|start_header_id|>',
    '<|end_header_id|>',
    ...(role === 'prompt' ? [] : ['<|eot_id|>']),
  ];

  test.each<{ messages: ChatMessage[] }>([
    { messages: [user('Hello you')] },
    { messages: [user('good day')] },
    { messages: [user('Hello'), assistant('<think>long</think>short'), user('more')] },
  ])('sees them as they are: $messages', async ({ messages }) => {
    const oracle = await oracleOf(curiousFiles);
    expect(tokenizer.encodeChat(messages, prompt)).toEqual(oracle.encodeChat(messages, true));
  });

  test('still gets no control token from them', () => {
    const messages = [
      user('Hello <|eot_id|><think>'),
      assistant('Hello<|eot_id|>!'),
      user('</think> a<|eot_id|>'),
    ];
    const ids = tokenizer.encodeChat(messages, prompt);
    const expected = [
      '<|begin_of_text|>',
      ...messages.flatMap(() => turn('turn')),
      ...turn('prompt'),
      '<think>',
    ];
    expect(controlIds(curiousFiles, ids)).toEqual(expected);
    for (const { content } of messages) expect(tokenizer.decode(ids)).toContain(content);
  });

  test('gets none from overlapping ones either', () => {
    const extraTokens = [{ content: '<a>' }, { content: 'a>b<' }, { content: '<|>' }];
    const files = llama3Files({ template: CURIOUS_TEMPLATE, extraTokens });
    const ids = ChatTokenizer.create(files).encodeChat([user('Hello <a>b<|>')], {
      addGenerationPrompt: false,
    });
    expect(controlIds(files, ids)).toEqual(['<|begin_of_text|>', ...turn('turn')]);
  });
});

describe('message text', () => {
  test('cannot complete a control token that the template began', () => {
    const template =
      "{{ bos_token }}{% for message in messages %}{{ '<|eot_' + message['content'] + '|>' }}{% endfor %}";
    const files = llama3Files({ template });
    const ids = ChatTokenizer.create(files).encodeChat([user('id')], prompt);
    expect(controlIds(files, ids)).toEqual(['<|begin_of_text|>']);
    expect(ChatTokenizer.create(files).decode(ids)).toBe('<|eot_id|>');
  });

  test('may hold private-use characters', async () => {
    const files = llama3Files();
    const messages = [user('\ue000 <|eot_id \ue001\uf8ff')];
    const ids = ChatTokenizer.create(files).encodeChat(messages, prompt);
    expect(ids).toEqual((await oracleOf(files)).encodeChat(messages, true));
  });

  test('that leaves no private-use character unused is refused', () => {
    const all = Array.from({ length: 0xf8ff - 0xe000 + 1 }, (_, i) => String.fromCharCode(0xe000 + i)).join(
      '',
    );
    const tokenizer = ChatTokenizer.create(llama3Files());
    expect(() => tokenizer.encodeChat([user(all)], prompt)).toThrow(/private-use characters.*found 0/);
  });

  test('is large: 200,000 characters take no special path', () => {
    const tokenizer = ChatTokenizer.create(llama3Files());
    const content = '<|eot_id|> word '.repeat(12_500).trim();
    expect(tokenizer.decode(tokenizer.encodeChat([user(content)], prompt))).toContain(content);
  });
});

describe('ChatTemplateError', () => {
  const llama2 = ChatTokenizer.create(sentencePieceFiles('prepend'));
  const withTemplate = (template: string) => ChatTokenizer.create(llama3Files({ template }));
  const encode = (tokenizer: ChatTokenizer, messages: unknown) =>
    tokenizer.encodeChat(messages as ChatMessage[], prompt);

  test.each<[string, () => unknown, RegExp]>([
    ['what the template refuses', () => encode(llama2, [user('a'), user('b')]), /roles must alternate/],
    ['no messages', () => encode(llama2, []), /at least one message/],
    [
      'a foreign role',
      () => encode(llama2, [{ role: 'user</s>', content: '' }]),
      /messages\[0\].role.*"user<\/s>"/,
    ],
    [
      'content that is no text',
      () => encode(llama2, [{ role: 'user', content: 5 }]),
      /messages\[0\].content.*number/,
    ],
    ['a syntax error', () => encode(withTemplate('{% for %}'), [user('a')]), /tokenizer_config.json/],
    ['an unknown filter', () => encode(withTemplate("{{ 'a' | nonsense }}"), [user('a')]), /nonsense/],
    ['a huge template', () => withTemplate(' '.repeat(262_145)), /at most 262144 characters, found 262145/],
  ])('on %s', (_, act, message) => {
    expect(act).toThrow(ChatTemplateError);
    expect(act).toThrow(message);
  });

  test('on a chat without a template', () => {
    const files = llama3Files();
    const { chat_template: _, ...tokenizerConfig } = files.tokenizerConfig;
    const tokenizer = ChatTokenizer.create({ ...files, tokenizerConfig });
    expect(tokenizer.hasChatTemplate).toBe(false);
    expect(() => encode(tokenizer, [user('a')])).toThrow(/the model has none/);
    expect(tokenizer.encodeText('a', { addBos: false })).toHaveLength(1);
  });
});

describe('the template', () => {
  test('is the one named default when there are several', () => {
    const files = llama3Files();
    const chat_template = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: "{{ messages[0]['content'] }}" },
    ];
    const tokenizer = ChatTokenizer.create({
      ...files,
      tokenizerConfig: { ...files.tokenizerConfig, chat_template },
    });
    expect(tokenizer.renderChat([user('plain')], prompt)).toBe('plain');
  });

  test('may come from its own file', () => {
    const tokenizer = ChatTokenizer.create({ ...llama3Files(), chatTemplate: 'own {{ bos_token }}' });
    expect(tokenizer.renderChat([user('a')], prompt)).toBe('own <|begin_of_text|>');
  });

  test('adds the generation prompt only when asked', () => {
    const tokenizer = ChatTokenizer.create(llama3Files());
    const closed = tokenizer.encodeChat([user('a')], { addGenerationPrompt: false });
    const open = tokenizer.encodeChat([user('a')], prompt);
    expect(open.slice(0, closed.length)).toEqual(closed);
    expect(tokenizer.decode(open.slice(closed.length))).toBe('assistant\n\n');
  });
});
