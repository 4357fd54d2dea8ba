import { describe, expect, test } from 'vitest';
import { ChatTokenizer } from './chat-tokenizer';
import { splitAtTokens } from './control-tokens';
import { oracleOf } from './oracle.node';
import { llama3Files, sentencePieceFiles } from './testing';

const token = (content: string, flags: { lstrip?: boolean; rstrip?: boolean } = {}) => ({
  id: 0,
  content,
  special: true,
  lstrip: false,
  rstrip: false,
  ...flags,
});

const split = (text: string, tokens: ReturnType<typeof token>[]) =>
  splitAtTokens(text, tokens).map((section) => ('token' in section ? [section.token.content] : section.text));

describe('splitAtTokens', () => {
  test('takes the longest token at the leftmost place', () => {
    expect(split('x<a><a><b>y', [token('<a>'), token('<a><b>')])).toEqual(['x', ['<a>'], ['<a><b>'], 'y']);
  });

  test('reads no pattern into a token', () => {
    expect(split('aXb a.b (c|d)', [token('a.b'), token('(c|d)')])).toEqual(['aXb ', ['a.b'], ' ', ['(c|d)']]);
  });

  test('strips white space beside a token that asks for it', () => {
    const tokens = [token('<l>', { lstrip: true }), token('<r>', { rstrip: true })];
    expect(split(' a <l> b <r> c ', tokens)).toEqual([' a', ['<l>'], ' b ', ['<r>'], 'c ']);
  });

  test('gives no empty sections', () => {
    expect(split('', [token('<a>')])).toEqual([]);
    expect(split('<a>', [token('<a>')])).toEqual([['<a>']]);
    expect(split('a', [])).toEqual(['a']);
  });
});

describe('a vocabulary that spells control tokens', () => {
  test('byte-level with ignore_merges: a whole word of the vocabulary', () => {
    const files = llama3Files({ extraTokens: [{ content: 'control', special: true }] });
    const id = ChatTokenizer.create(files).vocabSize - 1;
    const model = files.tokenizer.model as { vocab: Record<string, number> };
    const tokenizer = { ...files.tokenizer, model: { ...model, vocab: { ...model.vocab, control: id } } };
    const ids = ChatTokenizer.create({ ...files, tokenizer }).encodeText('control', { addBos: false });
    expect(ids).not.toContain(id);
    expect(ChatTokenizer.create({ ...files, tokenizer }).decode(ids)).toBe('control');
  });

  test('merges that build one', () => {
    const files = sentencePieceFiles('prepend');
    const model = files.tokenizer.model as { vocab: Record<string, number>; merges: string[][] };
    const vocab = { ...model.vocab, '<': 2000, '/': 2001, '>': 2002, '</': 2003, 's>': 2004 };
    const merges = [['<', '/'], ['s', '>'], ['</', 's>'], ...model.merges];
    const tokenizer = { ...files.tokenizer, model: { ...model, vocab, merges } };
    const made = ChatTokenizer.create({ ...files, tokenizer });
    const ids = made.encodeText('</s>', { addBos: false });
    expect(ids).toEqual([model.vocab['▁'], 2003, 2004]);
    expect(made.decode(ids)).toBe('</s>');
  });

  test('an ordinary name for a control id', () => {
    const files = llama3Files();
    const model = files.tokenizer.model as { vocab: Record<string, number> };
    const control = (files.tokenizer.added_tokens as { id: number }[])[0]!.id;
    const tokenizer = { ...files.tokenizer, model: { ...model, vocab: { ...model.vocab, alias: control } } };
    expect(
      ChatTokenizer.create({ ...files, tokenizer }).encodeText('alias', { addBos: false }),
    ).not.toContain(control);
  });

  test('Unigram pieces', async () => {
    const pieces: [string, number][] = [
      ['<unk>', 0],
      ['</s>', 0],
      ['▁', -3],
      ['▁a', -1],
      ['b', -2],
    ];
    const letters = ['<', '/', 's', '>'].map((letter): [string, number] => [letter, -4]);
    const files = sentencePieceFiles('prepend');
    const tokenizer = {
      ...files.tokenizer,
      added_tokens: [
        { ...token('<unk>'), id: 0 },
        { ...token('</s>'), id: 1 },
      ],
      model: { type: 'Unigram', unk_id: 0, vocab: [...pieces, ...letters] },
    };
    const tokenizerConfig = { eos_token: '</s>', tokenizer_class: 'LlamaTokenizer' };
    const made = ChatTokenizer.create({ tokenizer, tokenizerConfig });
    const oracle = await oracleOf({ tokenizer, tokenizerConfig });
    expect(made.encodeText('ab a bb', { addBos: false })).toEqual(oracle.encode('ab a bb', false));
    const ids = made.encodeText('</s>', { addBos: false });
    expect(ids).toEqual([2, 5, 6, 7, 8]);
    expect(made.decode(ids)).toBe('</s>');
  });
});

describe('added tokens that are plain vocabulary', () => {
  const extraTokens = [
    { content: '    ', special: false, normalized: false },
    { content: 'mergequant', special: false, normalized: false },
    { content: '<tool_call>', special: false, normalized: false },
  ];
  const files = llama3Files({ extraTokens });
  const tokenizer = ChatTokenizer.create(files);

  test('are used in every text, as by the oracle', async () => {
    const oracle = await oracleOf(files);
    for (const text of ['a    b      c', 'the mergequant paper', '    ']) {
      expect(tokenizer.encodeText(text, { addBos: true })).toEqual(oracle.encode(text, true));
    }
    expect(tokenizer.encodeText('mergequant', { addBos: false })).toEqual([tokenizer.vocabSize - 2]);
  });

  test('are shown, as is markup that the model writes', () => {
    const [word, markup] = [tokenizer.vocabSize - 2, tokenizer.vocabSize - 1];
    expect(tokenizer.decode([word, markup])).toBe('mergequant<tool_call>');
  });

  test('exclude markup, special or not', () => {
    expect(tokenizer.encodeText('<tool_call>', { addBos: false })).not.toContain(tokenizer.vocabSize - 1);
  });
});
