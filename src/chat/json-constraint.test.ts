import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ChatTokenizer } from '../tokenizer';
import { llama3Files, sentencePieceFiles } from '../tokenizer/testing';
import { dead, JsonAutomaton } from './json-automaton';
import { ConstraintError, JsonConstraint, JsonVocabulary, JsonVocabularyError } from './json-constraint';
import { TokenTrie } from './token-trie';

const demo = new Map(
  ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'].map((name) => [
    name,
    readFileSync(`models/demo-chat-8m/${name}`, 'utf8'),
  ]),
);
const tokenizers = [
  { name: 'byte-level', tokenizer: ChatTokenizer.create(llama3Files()) },
  { name: 'byte fallback', tokenizer: ChatTokenizer.create(sentencePieceFiles('prepend')) },
  { name: 'the demo model', tokenizer: ChatTokenizer.fromFiles(demo) },
];

const object = fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue({ stringUnit: 'grapheme' }));
const text = fc
  .tuple(object, fc.constantFrom(undefined, 2))
  .map(([value, indent]) => JSON.stringify(value, null, indent));

function allowedIds(mask: Uint32Array): number[] {
  const ids: number[] = [];
  mask.forEach((word, index) => {
    for (let bit = 0; bit < 32; bit++) if ((word >>> bit) & 1) ids.push(32 * index + bit);
  });
  return ids;
}

describe.each(tokenizers)('JSON mode, $name', ({ tokenizer }) => {
  const padded = tokenizer.vocabSize + 13; // models pad their vocabulary
  const vocabulary = new JsonVocabulary(tokenizer, padded);

  test('every JSON object, tokenized, is allowed token by token and then complete', () => {
    fc.assert(
      fc.property(text, (json) => {
        const constraint = new JsonConstraint(vocabulary);
        for (const id of tokenizer.encodeText(json, { addBos: false })) {
          expect(constraint.isComplete).toBe(false);
          expect((constraint.mask()[id >> 5]! >>> (id & 31)) & 1, `token ${id} in ${json}`).toBe(1);
          constraint.accept(id);
        }
        expect(constraint.isComplete).toBe(true);
        expect(allowedIds(constraint.mask())).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test('any tokens drawn from the masks are the beginning of a valid text, and lead to its end', () => {
    // Ways out, by single-byte tokens; `{` opens a reply of nothing but white space.
    const single = (byte: number) =>
      allowedIds(new Uint32Array(Math.ceil(padded / 32)).fill(0xffffffff)).find((id) => {
        const bytes = vocabulary.bytesOf(id);
        return bytes?.length === 1 && bytes[0] === byte;
      })!;
    const wayOut = [...'"}]:0ruelas{']
      .map((c) => c.charCodeAt(0))
      .concat(0x80, 0xa0)
      .map(single);
    fc.assert(
      fc.property(fc.array(fc.nat(), { minLength: 1, maxLength: 40 }), (choices) => {
        const constraint = new JsonConstraint(vocabulary);
        const ids: number[] = [];
        const take = (id: number) => {
          constraint.accept(id);
          ids.push(id);
        };
        for (const choice of choices) {
          if (constraint.isComplete) break;
          const allowed = allowedIds(constraint.mask());
          for (const end of tokenizer.eosTokenIds) expect(allowed).not.toContain(end);
          take(allowed[choice % allowed.length]!);
        }
        for (let i = 0; i < 500 && !constraint.isComplete; i++) {
          const allowed = new Set(allowedIds(constraint.mask()));
          take(wayOut.find((id) => allowed.has(id))!);
        }
        const whole = tokenizer.decode(ids);
        expect(JSON.parse(whole)).toBeTypeOf('object');
        expect(whole).not.toContain('\ufffd');
      }),
      { numRuns: 150 },
    );
  });

  test('the mask is that of every token tried on its own', () => {
    const prefixes = [
      '',
      '{',
      '{"',
      '{"a\\',
      '{"a":',
      '{"a":[1',
      '{"a":[tr',
      '{"a":-',
      '{"a":[[{"b":"x"',
      '{"a":{}',
      '{}',
    ];
    for (const prefix of prefixes) {
      const automaton = new JsonAutomaton();
      const start = [...new TextEncoder().encode(prefix)].reduce(
        (state, byte) => automaton.step(state, byte),
        automaton.start,
      );
      const mask = new Uint32Array(Math.ceil(padded / 32));
      vocabulary.trie.allow(start, (state, byte) => automaton.step(state, byte), mask);
      const expected: number[] = [];
      for (let id = 0; id < padded; id++) {
        const bytes = vocabulary.bytesOf(id);
        let state = bytes === undefined ? dead : start;
        for (const byte of bytes ?? []) state = state === dead ? dead : automaton.step(state, byte);
        if (state !== dead) expected.push(id);
      }
      expect(allowedIds(mask), prefix).toEqual(expected);
      expect(expected.length > 0, prefix).toBe(prefix !== '{}');
    }
  });

  test('a token that cannot come is refused by name', () => {
    const constraint = new JsonConstraint(vocabulary);
    for (const id of [
      tokenizer.eosTokenIds[0]!,
      padded - 1,
      ...tokenizer.encodeText('x', { addBos: false }).slice(-1),
    ]) {
      expect(() => constraint.accept(id)).toThrow(ConstraintError);
    }
  });
});

test('a vocabulary that could get stuck is refused, naming what it lacks', () => {
  const tokens = [...'{[,":0123456789truefalsn}x'].map((character) => new TextEncoder().encode(character));
  const source = (pieces: readonly Uint8Array[]) => ({
    vocabSize: pieces.length,
    eosTokenIds: [],
    tokenBytes: (id: number) => pieces[id] ?? null,
  });
  expect(() => new JsonVocabulary(source(tokens), 100)).toThrow(JsonVocabularyError);
  expect(() => new JsonVocabulary(source(tokens), 100)).toThrow(/no tokens for '\]' alone/);
  const enough = [...tokens, Uint8Array.of(0x5d)];
  expect(() => new JsonVocabulary(source(enough), 100)).not.toThrow();
  expect(() => new JsonVocabulary(source([...enough, Uint8Array.of(0xe0)]), 100)).toThrow(/0x80, 0xa0/);
});

test('the trie finds all tokens of equal, nested and empty beginnings', () => {
  const bytes = fc.array(fc.constantFrom(1, 2, 3), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 40 }), fc.constantFrom(1, 2, 3), (tokens, banned) => {
      const trie = TokenTrie.build(tokens.map((token, id) => ({ id, bytes: Uint8Array.from(token) })));
      const mask = new Uint32Array(2);
      trie.allow(0, (state, byte) => (byte === banned ? -1 : state + byte), mask);
      const expected = tokens.flatMap((token, id) => (token.includes(banned) ? [] : [id]));
      expect(allowedIds(mask)).toEqual(expected);
    }),
    { numRuns: 500 },
  );
});
