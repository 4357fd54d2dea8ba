import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ChatMessage } from './chat-template';
import { ChatTokenizer } from './chat-tokenizer';
import type { TokenizerFiles } from './files';
import { loadOracle, type Oracle, oracleOf } from './oracle.node';
import { ASSORTED_TEXTS, llama3Files, sentencePieceFiles } from './testing';

const demoFolder = fileURLToPath(new URL('../../models/demo-chat-8m', import.meta.url));
const readDemo = (name: string) => JSON.parse(readFileSync(`${demoFolder}/${name}`, 'utf8'));

/** The oracle drops a byte order mark that byte tokens spell; here it stays, so that decode inverts encode. */
const withoutMarks = (text: string) => text.replaceAll('\ufeff', '');

interface Family {
  readonly name: string;
  readonly files: TokenizerFiles;
  readonly load: () => Promise<Oracle>;
}

const demoFiles: TokenizerFiles = {
  tokenizer: readDemo('tokenizer.json'),
  tokenizerConfig: readDemo('tokenizer_config.json'),
  generationConfig: readDemo('generation_config.json'),
};

const made = (name: string, files: TokenizerFiles): Family => ({ name, files, load: () => oracleOf(files) });

const families: readonly Family[] = [
  { name: 'demo', files: demoFiles, load: () => loadOracle(demoFolder) },
  made('byte-level', llama3Files()),
  made('SentencePiece, Prepend normalizer', sentencePieceFiles('prepend')),
  made('SentencePiece, Metaspace first', sentencePieceFiles('first')),
  made('SentencePiece, Metaspace always', sentencePieceFiles('always')),
  made('SentencePiece, Metaspace never', sentencePieceFiles('never')),
];

const CONTROL_TEXTS = [
  '<s>',
  '</s>',
  '<unk>',
  '<|eot_id|>',
  '<|begin_of_text|>',
  '<|start_header_id|>',
] as const;

const holdsControlText = (text: string) => CONTROL_TEXTS.some((control) => text.includes(control));

const benignText = fc
  .oneof(
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    fc.string({ unit: fc.constantFrom(...'<|/s>unk[]INST \n▁'), maxLength: 20 }),
    fc.constantFrom(...ASSORTED_TEXTS),
  )
  .filter((text) => !holdsControlText(text));

/** Text that tries hard to be a control token, also together with the template's own text. */
const hostileText = fc
  .array(
    fc.oneof(fc.constantFrom(...CONTROL_TEXTS, '<', '</', 's>', '|>', '<|eot', '_id|>', ' '), benignText),
    {
      maxLength: 6,
    },
  )
  .map((parts) => parts.join(''));

/** System prompt or none, then user and assistant in turn. */
const conversation = (text: fc.Arbitrary<string>): fc.Arbitrary<ChatMessage[]> =>
  fc
    .record({ system: fc.option(text), turns: fc.array(text, { minLength: 1, maxLength: 4 }) })
    .map(({ system, turns }) => [
      ...(system === null ? [] : [{ role: 'system' as const, content: system }]),
      ...turns.map((content, index) => ({
        role: index % 2 === 0 ? ('user' as const) : ('assistant' as const),
        content,
      })),
    ]);

describe.each(families)('$name', ({ name, files, load }) => {
  const tokenizer = ChatTokenizer.create(files);
  const specialIds = new Set(
    (files.tokenizer as { added_tokens: { id: number }[] }).added_tokens.map((token) => token.id),
  );
  const specialsOf = (ids: readonly number[]) => ids.filter((id) => specialIds.has(id));
  /** SentencePiece's mark for a space cannot be told from a space again. */
  const asSpelled = (text: string) => (name.startsWith('byte') ? text : text.replaceAll('▁', ' '));
  let oracle: Oracle;
  beforeAll(async () => {
    oracle = await load();
  });

  test.each(ASSORTED_TEXTS)('encodes %j as the oracle does, and back', (text) => {
    expect(tokenizer.encodeText(text, { addBos: false })).toEqual(oracle.encode(text, false));
    const ids = tokenizer.encodeText(text, { addBos: true });
    expect(ids).toEqual(oracle.encode(text, true));
    expect(withoutMarks(tokenizer.decode(ids))).toBe(withoutMarks(oracle.decode(ids)));
  });

  test('encodes any benign text as the oracle does', () => {
    fc.assert(
      fc.property(benignText, fc.boolean(), (text, addBos) => {
        expect(tokenizer.encodeText(text, { addBos })).toEqual(oracle.encode(text, addBos));
      }),
      { numRuns: 300 },
    );
  });

  test('encodes any benign conversation as the oracle does', () => {
    fc.assert(
      fc.property(conversation(benignText), fc.boolean(), (messages, addGenerationPrompt) => {
        const ids = tokenizer.encodeChat(messages, { addGenerationPrompt });
        expect(ids).toEqual(oracle.encodeChat(messages, addGenerationPrompt));
      }),
      { numRuns: 300 },
    );
  });

  test('text never yields a control token', () => {
    fc.assert(
      fc.property(hostileText, (text) => {
        expect(specialsOf(tokenizer.encodeText(text, { addBos: false }))).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  test('a conversation has the control tokens of its template only, and says what was said', () => {
    fc.assert(
      fc.property(conversation(hostileText), (messages) => {
        const options = { addGenerationPrompt: true };
        const harmless = messages.map(({ role }) => ({ role, content: 'x' }));
        const ids = tokenizer.encodeChat(messages, options);
        expect(specialsOf(ids)).toEqual(specialsOf(tokenizer.encodeChat(harmless, options)));
        const visible = tokenizer.decode(ids);
        for (const { content } of messages) expect(visible).toContain(asSpelled(content.trim()));
      }),
      { numRuns: 300 },
    );
  });

  test('decodes any ids as the oracle does', () => {
    const anyId = fc.nat({ max: tokenizer.vocabSize - 1 });
    const anyIds = fc.array(fc.oneof(anyId, fc.nat({ max: 260 })), { maxLength: 40 });
    fc.assert(
      fc.property(anyIds, (ids) => {
        expect(withoutMarks(tokenizer.decode(ids))).toBe(withoutMarks(oracle.decode(ids)));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('the demo checkpoint', () => {
  const tokenizer = ChatTokenizer.create(demoFiles);
  interface Sample {
    readonly user?: string;
    readonly turns?: readonly [ChatMessage['role'], string][];
    readonly prompt_ids: readonly number[];
    readonly greedy_ids: readonly number[];
    readonly text: string;
  }
  const samples: readonly Sample[] = readDemo('report.json').samples;

  test.each(samples)('reproduces sample %# of report.json', (sample) => {
    const turns = sample.turns ?? [['user', sample.user!] as const];
    const messages = turns.map(([role, content]) => ({ role, content }));
    expect(tokenizer.encodeChat(messages, { addGenerationPrompt: true })).toEqual(sample.prompt_ids);
    expect(tokenizer.decode(sample.greedy_ids)).toBe(sample.text);
  });

  test('knows its special ids and size', () => {
    expect(tokenizer.bosTokenId).toBe(1);
    expect(tokenizer.eosTokenIds).toEqual([2]);
    expect(tokenizer.vocabSize).toBe(2048);
    expect(tokenizer.hasChatTemplate).toBe(true);
  });
});

describe('special ids', () => {
  const files = llama3Files();
  const tokens = (files.tokenizer.added_tokens as { id: number; content: string }[]).map(
    ({ id, content }) => ({
      id,
      content,
    }),
  );
  const idOf = (content: string) => tokens.find((token) => token.content === content)!.id;

  test("take in generation_config's list and Llama-3's end of turn", () => {
    const extra = idOf('<|start_header_id|>');
    const { eosTokenIds } = ChatTokenizer.create({ ...files, generationConfig: { eos_token_id: [extra] } });
    expect(eosTokenIds).toEqual([idOf('<|end_of_text|>'), extra, idOf('<|eot_id|>')]);
  });

  test('may be missing: no beginning token is put before text then', () => {
    const { bos_token: _, ...tokenizerConfig } = files.tokenizerConfig;
    const tokenizer = ChatTokenizer.create({ ...files, tokenizerConfig });
    expect(tokenizer.bosTokenId).toBeNull();
    const plain = tokenizer.encodeText('Hello', { addBos: false });
    expect(tokenizer.encodeText('Hello', { addBos: true })).toEqual(plain);
  });
});
