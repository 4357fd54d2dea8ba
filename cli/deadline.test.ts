/** Checkpoints whose template or patterns never end: stopped by their own deadline, and the next call works. */
import { expect, test } from 'vitest';
import { ChatTokenizer, TokenizerTimeoutError } from '../src/tokenizer';
import { sentencePieceFiles } from '../src/tokenizer/testing';
import { withDeadline } from './deadline';

const guard = withDeadline(300);
const loops = '{% for a in range(30000) %}'.repeat(4) + '{% endfor %}'.repeat(4);
const growing =
  "{% set ns = namespace(t='x') %}{% for a in range(30000) %}{% set ns.t = ns.t + ns.t[:9999] %}{% endfor %}";
const chat = [{ role: 'user', content: `${'a'.repeat(40)}!` }] as const;

test.each([
  ['a template of endless loops', loops],
  ['a template that only grows', growing + loops],
])('%s', (_, template) => {
  const tokenizer = ChatTokenizer.create(sentencePieceFiles('first', { template }), guard);
  expect(() => tokenizer.encodeChat(chat, { addGenerationPrompt: true })).toThrow(TokenizerTimeoutError);
  expect(() => tokenizer.renderChat(chat, { addGenerationPrompt: true })).toThrow('within 0.3 s');
  expect(tokenizer.encodeText('Hi', { addBos: false }).length).toBeGreaterThan(0);
});

test.each([
  [
    'pre-tokenizer',
    { pre_tokenizer: { type: 'Split', pattern: { Regex: '(a+)+$' }, behavior: 'Isolated', invert: false } },
  ],
  ['normalizer', { normalizer: { type: 'Replace', pattern: { Regex: '(a|aa)+$' }, content: 'b' } }],
])('a catastrophic pattern in the %s', (_, part) => {
  const files = sentencePieceFiles('first');
  const tokenizer = ChatTokenizer.create({ ...files, tokenizer: { ...files.tokenizer, ...part } }, guard);
  const text = `${'a'.repeat(60)}!`;
  expect(() => tokenizer.encodeText(text, { addBos: false })).toThrow(TokenizerTimeoutError);
  expect(tokenizer.encodeText('Hi', { addBos: false }).length).toBeGreaterThan(0);
});

test('a template that multiplies its input is refused by the size of what it writes', () => {
  const template =
    "{% set ns = namespace(t='xxxxxxxxxxxxxxxx') %}{% for a in range(21) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}";
  const tokenizer = ChatTokenizer.create(sentencePieceFiles('first', { template }), guard);
  expect(() => tokenizer.renderChat(chat, { addGenerationPrompt: true })).toThrow(
    'expected at most 16777216 characters, found a text of 33554432',
  );
});

test('what ends in time is what it is without a deadline, errors included', () => {
  const files = sentencePieceFiles('first', { template: "{{ raise_exception('no system') }}" });
  const [bounded, plain] = [ChatTokenizer.create(files, guard), ChatTokenizer.create(files)];
  expect(bounded.encodeText('The weather', { addBos: true })).toEqual(
    plain.encodeText('The weather', { addBos: true }),
  );
  expect(() => bounded.renderChat(chat, { addGenerationPrompt: false })).toThrow(/no system/);
});
