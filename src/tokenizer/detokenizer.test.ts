import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ChatTokenizer } from './chat-tokenizer';
import { IncrementalDetokenizer } from './detokenizer';
import type { TokenizerFiles } from './files';
import { ASSORTED_TEXTS, llama3Files, sentencePieceFiles } from './testing';

/** Ids → what is shown after each, and at the end. */
function stream(tokenizer: ChatTokenizer, ids: readonly number[]): string[] {
  const detokenizer = new IncrementalDetokenizer(tokenizer);
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()];
}

const metaspaceDecoder = (prepend_scheme: string) => {
  const files = sentencePieceFiles('first');
  const decoder = { type: 'Metaspace', replacement: '▁', prepend_scheme, split: false };
  return { ...files, tokenizer: { ...files.tokenizer, decoder } };
};

const strippingDecoder = () => {
  const files = sentencePieceFiles('first');
  const decoders = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    { type: 'Strip', content: ' ', start: 2, stop: 3 },
  ];
  return { ...files, tokenizer: { ...files.tokenizer, decoder: { type: 'Sequence', decoders } } };
};

const families: readonly [string, TokenizerFiles][] = [
  ['byte-level', llama3Files({ extraTokens: [{ content: '<think>', special: false }] })],
  ['byte fallback', sentencePieceFiles('prepend')],
  ['Metaspace decoder', metaspaceDecoder('first')],
  ['stripping decoder', strippingDecoder()],
];

describe.each(families)('%s', (_, files) => {
  const tokenizer = ChatTokenizer.create(files);
  /** Few tokens but the byte tokens and special ones often, so that broken characters are the rule. */
  const anyIds = fc.array(
    fc.oneof(
      fc.nat({ max: tokenizer.vocabSize + 3 }),
      fc.integer({ min: 130, max: 260 }),
      fc.nat({ max: 3 }),
    ),
    { maxLength: 60 },
  );

  test('deltas make the whole text, for any ids', () => {
    fc.assert(
      fc.property(anyIds, (ids) => {
        expect(stream(tokenizer, ids).join('')).toBe(tokenizer.decode(ids));
      }),
      { numRuns: 1000 },
    );
  });

  test.each(ASSORTED_TEXTS)('no delta ends inside a character of %j', (text) => {
    const deltas = stream(tokenizer, tokenizer.encodeText(text, { addBos: true }));
    for (const delta of deltas) expect(delta).not.toMatch(/\uFFFD|\p{Surrogate}/u);
  });

  test('special ids and ids outside the vocabulary show nothing', () => {
    const hello = tokenizer.encodeText('Hello', { addBos: false });
    const noise = [tokenizer.bosTokenId!, tokenizer.vocabSize + 5, 2 ** 40, ...tokenizer.eosTokenIds];
    expect(tokenizer.decode([...noise, ...hello, ...noise])).toBe(tokenizer.decode(hello));
  });
});

describe('byte fallback', () => {
  const tokenizer = ChatTokenizer.create(sentencePieceFiles('prepend'));
  const byteIds = (text: string) => Array.from(new TextEncoder().encode(text), (byte) => byte + 3);

  test('shows a character with its last byte', () => {
    expect(stream(tokenizer, byteIds('é😀'))).toEqual(['', 'é', '', '', '', '😀', '']);
  });

  test('shows an unfinished character as U+FFFD at the end, or before the next token', () => {
    const started = byteIds('😀').slice(0, 3);
    const [, hello] = tokenizer.encodeText('H', { addBos: false });
    expect(stream(tokenizer, started)).toEqual(['', '', '', '\uFFFD']);
    expect(stream(tokenizer, [...started, hello!])).toEqual(['', '', '', '\uFFFDH', '']);
  });

  test('drops the first space only', () => {
    const ids = tokenizer.encodeText('The weather', { addBos: false });
    expect(stream(tokenizer, ids).join('')).toBe('The weather');
    expect(tokenizer.decode([...ids, ...ids])).toBe('The weather The weather');
  });
});

describe('other decoders', () => {
  test('Metaspace keeps the first space when none was prepended', () => {
    const ids = ChatTokenizer.create(metaspaceDecoder('first')).encodeText('The', { addBos: false });
    expect(ChatTokenizer.create(metaspaceDecoder('first')).decode(ids)).toBe('The');
    expect(ChatTokenizer.create(metaspaceDecoder('never')).decode(ids)).toBe(' The');
  });

  test('Strip cuts both ends of the whole text, counted', () => {
    const tokenizer = ChatTokenizer.create(strippingDecoder());
    const ids = tokenizer.encodeText('   a  b    ', { addBos: false });
    expect(tokenizer.decode(ids)).toBe(' a  b ');
  });

  test('Strip before Fuse cuts every token', () => {
    const files = sentencePieceFiles('first');
    const decoders = [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ];
    const tokenizer = { ...files.tokenizer, decoder: { type: 'Sequence', decoders } };
    const made = ChatTokenizer.create({ ...files, tokenizer });
    expect(made.decode(made.encodeText('The weather', { addBos: false }))).toBe('Theweather');
  });
});
