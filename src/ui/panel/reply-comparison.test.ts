import { describe, expect, test } from 'vitest';
import { agreedTokens, agreementText, cutReply, measuredText, type ReplyToken } from './reply-comparison';

const tokens = (...texts: readonly string[]): ReplyToken[] =>
  texts.map((text) => ({ bytes: [...new TextEncoder().encode(text)], logprob: Math.log(0.25) }));

describe('two replies', () => {
  test('agree up to the first token that differs', () => {
    const a = tokens('The', ' sky', ' is', ' blue');
    const b = tokens('The', ' sky', ' was', ' blue');
    expect(agreedTokens(a, b)).toBe(2);
    const cut = cutReply(b, 2);
    expect(cut.agreed).toBe('The sky');
    expect(cut.differing?.text).toBe(' was');
    expect(cut.differing?.probability).toBeCloseTo(0.25, 12);
    expect(cut.rest).toBe(' blue');
  });

  test('are told apart in words', () => {
    const long = tokens('The', ' sky', ' is');
    expect(agreementText(long, long)).toBe('Both replies are the same, token for token.');
    expect(agreementText(tokens('A'), long)).toBe('Already token 1 differs.');
    expect(agreementText(tokens('The', ' sea'), long)).toBe('The first token is the same; token 2 differs.');
    expect(agreementText(tokens('The', ' sky'), long)).toBe(
      'The first 2 tokens are the same; token 3 differs.',
    );
  });

  test('begin without the space in front of a first word, whether it differs or not', () => {
    expect(cutReply(tokens(' The', ' sky'), 1)).toMatchObject({ agreed: 'The', differing: { text: ' sky' } });
    expect(cutReply(tokens(' The', ' sky'), 0)).toMatchObject({ differing: { text: 'The' }, rest: ' sky' });
  });

  test('the same text cut into other tokens differs', () => {
    expect(agreedTokens(tokens('ab', 'c'), tokens('a', 'bc'))).toBe(0);
  });

  test('one that ends earlier has no differing token', () => {
    const short = tokens('Yes');
    const long = tokens('Yes', '.');
    expect(agreedTokens(short, long)).toBe(1);
    expect(cutReply(short, 1).differing).toBeNull();
    expect(cutReply(long, 1).differing?.text).toBe('.');
  });

  test('characters spread over agreed tokens come out whole', () => {
    const [first, second] = [...new TextEncoder().encode('é')].map((byte) => ({ bytes: [byte], logprob: 0 }));
    expect(cutReply([first!, second!], 2).agreed).toBe('é');
  });
});

test('the perplexity of a manifest, and silence where there is none', () => {
  const measured = { text: 'prose', tokens: 211163, perplexity: 22.559, floatPerplexity: 20.698 };
  expect(measuredText({ provenance: { measured } })).toBe(
    'Perplexity 22.56, 1.090 × float (prose; 211,163 tokens)',
  );
  expect(measuredText({ provenance: {} })).toBeNull();
  expect(measuredText({ provenance: { measured: { perplexity: 'low' } } })).toBeNull();
});
