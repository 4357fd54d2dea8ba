import { describe, expect, test } from 'vitest';
import { ChatTokenizer } from './chat-tokenizer';
import { TokenizerError } from './errors';
import type { TokenizerFiles } from './files';
import { sentencePieceFiles } from './testing';

const good = sentencePieceFiles('prepend');

/** The good tokenizer.json with other top-level fields. */
const tokenizerWith = (fields: Record<string, unknown>): TokenizerFiles => ({
  ...good,
  tokenizer: { ...good.tokenizer, ...fields },
});

const modelWith = (fields: Record<string, unknown>) =>
  tokenizerWith({ model: { ...(good.tokenizer.model as object), ...fields } });

const configWith = (fields: Record<string, unknown>): TokenizerFiles => ({
  ...good,
  tokenizerConfig: { ...good.tokenizerConfig, ...fields },
});

function errorOf(act: () => unknown): TokenizerError {
  try {
    act();
  } catch (error) {
    if (error instanceof TokenizerError) return error;
    throw error;
  }
  throw new Error('expected a TokenizerError');
}

describe('TokenizerError', () => {
  test.each<[string, TokenizerFiles, string, string, RegExp, RegExp]>([
    ['no object', { ...good, tokenizer: null }, 'tokenizer.json', '', /Object/, /null/],
    ['no model', tokenizerWith({ model: undefined }), 'tokenizer.json', 'model', /Object/, /undefined/],
    ['a foreign model', modelWith({ type: 'WordPiece' }), 'tokenizer.json', 'model.type', /BPE/, /WordPiece/],
    [
      'a fractional id',
      modelWith({ vocab: { a: 0.5 } }),
      'tokenizer.json',
      'model.vocab',
      /token → id/,
      /Object/,
    ],
    ['a huge id', modelWith({ vocab: { a: 2 ** 40 } }), 'tokenizer.json', 'model.vocab', /2\^24/, /Object/],
    ['bad merges', modelWith({ merges: [['a']] }), 'tokenizer.json', 'model.merges', /pairs/, /Array/],
    [
      'a nameless added token',
      tokenizerWith({ added_tokens: [{ id: 1, content: '' }] }),
      'tokenizer.json',
      'added_tokens.0.content',
      />=1/,
      /0/,
    ],
    ['no decoder', tokenizerWith({ decoder: null }), 'tokenizer.json', 'decoder', /Object/, /null/],
    [
      'a foreign decoder',
      tokenizerWith({ decoder: { type: 'CTC' } }),
      'tokenizer.json',
      'decoder.type',
      /Fuse/,
      /CTC/,
    ],
    [
      'a foreign normalizer',
      tokenizerWith({ normalizer: { type: 'Odd' } }),
      'tokenizer.json',
      '',
      /components/,
      /Unknown Normalizer type: Odd/,
    ],
    [
      'a broken pattern',
      tokenizerWith({ pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' } }),
      'tokenizer.json',
      '',
      /components/,
      /regular expression/i,
    ],
    ['a strange BOS', configWith({ bos_token: 5 }), 'tokenizer_config.json', 'bos_token', /string/, /5/],
    [
      'an unknown EOS',
      configWith({ eos_token: '<end>' }),
      'tokenizer_config.json',
      'eos_token',
      /token of/,
      /<end>/,
    ],
    [
      'no default template',
      configWith({ chat_template: [{ name: 'rag', template: '' }] }),
      'tokenizer_config.json',
      'chat_template',
      /default/,
      /rag/,
    ],
    [
      'a negative end',
      { ...good, generationConfig: { eos_token_id: [2, -1] } },
      'generation_config.json',
      'eos_token_id.1',
      />=0/,
      /-1/,
    ],
  ])('names file and field: %s', (_, files, file, field, expected, found) => {
    const error = errorOf(() => ChatTokenizer.create(files));
    expect(error.file).toBe(file);
    expect(error.field).toBe(field);
    expect(error.expected).toMatch(expected);
    expect(error.found).toMatch(found);
    expect(error.message).toContain(file);
  });

  test('uses the names the caller gives', () => {
    const names = { tokenizer: 'demo/tokenizer.json' };
    const error = errorOf(() => ChatTokenizer.create({ ...good, tokenizer: [], names }));
    expect(error.file).toBe('demo/tokenizer.json');
  });
});

describe('fromFiles', () => {
  const texts = new Map([
    ['tokenizer.json', JSON.stringify(good.tokenizer)],
    ['tokenizer_config.json', JSON.stringify(good.tokenizerConfig)],
    ['generation_config.json', '{"eos_token_id": [2, 5]}'],
    ['chat_template.jinja', 'own template'],
  ]);

  test('reads all four files', () => {
    const tokenizer = ChatTokenizer.fromFiles(texts);
    expect(tokenizer.eosTokenIds).toEqual([2, 5]);
    expect(tokenizer.renderChat([{ role: 'user', content: '' }], { addGenerationPrompt: true })).toBe(
      'own template',
    );
  });

  test('names a missing file', () => {
    const error = errorOf(() => ChatTokenizer.fromFiles(new Map([...texts].slice(0, 1))));
    expect(error.message).toBe('tokenizer_config.json: expected the file, found none');
  });

  test('names malformed JSON', () => {
    const error = errorOf(() =>
      ChatTokenizer.fromFiles(new Map([...texts, ['tokenizer.json', '{"model":']])),
    );
    expect(error.message).toMatch(/^tokenizer.json: expected JSON, found /);
  });
});

describe('older files', () => {
  test('without model.type and with merges as text mean the same', () => {
    const { type: _, ...model } = good.tokenizer.model as { type: string; merges: string[][] };
    const merges = model.merges.map((pair) => pair.join(' '));
    const old = ChatTokenizer.create(tokenizerWith({ model: { ...model, merges } }));
    const text = 'The weather in Chicago';
    const ids = ChatTokenizer.create(good).encodeText(text, { addBos: true });
    expect(old.encodeText(text, { addBos: true })).toEqual(ids);
  });
});
