/** Small trained tokenizers of both families, in Hugging Face's file format, for tests. */
import type { TokenizerFiles } from './files';

const CORPUS = `The weather in Chicago is warm today, and the temperature should be around 77 degrees.
I'd like to find a restaurant; it's 10:30, we've 1234 tables! Don't worry, they'll help you.
Wie schön, daß Größe zählt. Où est la forêt ? 今日は天気がいいです。日本語と中文。 Привет, мир!
function add(a, b) { return a + b; } // system user assistant helpful
The user said hello to the assistant. The assistant said hello to the user.`;

/** Texts that tokenizers get wrong: scripts, combining marks, emoji sequences, white space of all kinds. */
export const ASSORTED_TEXTS: readonly string[] = [
  '',
  ' ',
  '   ',
  'Hello',
  ' leading and trailing ',
  'two  spaces   three\tTab\r\nWindows\n\n\nlines ',
  '\n',
  "I'd DON'T we'll they've",
  '1 12 123 1234 1234567 3.14 ½ Ⅷ',
  'naïve e\u0301 Åström \u0928\u092e\u0938\u094d\u0924\u0947',
  '今日は天気がいいです。 中文 한국어',
  'Привет! שלום مرحبا',
  '😀 👩‍👩‍👧‍👦 🇫🇷 👍🏽',
  'a\u00a0b\u2003c\u200bd\ufeffe',
  '▁already▁marked <0x41>',
  'if (a < b && c > d) { x[i] |= "q"; } // </div>',
  'Ġ Ċ ÿ \u0000 \u0007 \u007f',
];

type Merge = [string, string];

/** Plain BPE training: merges the most frequent neighbours, ties by code-unit order. */
function trainMerges(words: readonly (readonly string[])[], count: number): Merge[] {
  let current = words.map((word) => [...word]);
  const merges: Merge[] = [];
  while (merges.length < count) {
    const frequency = new Map<string, number>();
    for (const word of current) {
      for (let i = 1; i < word.length; i++) {
        const pair = JSON.stringify([word[i - 1], word[i]]);
        frequency.set(pair, (frequency.get(pair) ?? 0) + 1);
      }
    }
    const best = [...frequency].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0];
    if (best === undefined) break;
    const merge = JSON.parse(best[0]) as Merge;
    merges.push(merge);
    current = current.map((word) => applyMerge(word, merge));
  }
  return merges;
}

function applyMerge(word: readonly string[], [left, right]: Merge): string[] {
  const merged: string[] = [];
  for (let i = 0; i < word.length; i++) {
    if (word[i] === left && word[i + 1] === right) {
      merged.push(left + right);
      i++;
    } else merged.push(word[i]!);
  }
  return merged;
}

function vocabularyOf(tokens: Iterable<string>): Record<string, number> {
  return Object.fromEntries([...new Set(tokens)].map((token, id) => [token, id]));
}

function special(content: string, id: number, overrides: Readonly<Record<string, unknown>> = {}) {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return { id, content, ...flags, ...overrides };
}

const LLAMA3_SPLIT =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Llama-3's format: header tokens around the role, trimmed content, end-of-turn token. */
const LLAMA3_TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

export const LLAMA3_SPECIALS = [
  '<|begin_of_text|>',
  '<|end_of_text|>',
  '<|start_header_id|>',
  '<|end_header_id|>',
  '<|eot_id|>',
] as const;

/** A byte-level BPE tokenizer in Llama-3's shape. `extraTokens` are further added tokens; ids follow on. */
export function llama3Files(
  options: { template?: string; extraTokens?: readonly Record<string, unknown>[] } = {},
): TokenizerFiles & { tokenizer: Record<string, unknown>; tokenizerConfig: Record<string, unknown> } {
  const split = new RegExp(LLAMA3_SPLIT.replace('(?i:', '(?:'), 'gu');
  const words = (CORPUS.match(split) ?? []).map((word) => [...byteLevel(word)]);
  const merges = trainMerges(words, 200);
  const alphabet = Array.from({ length: 256 }, (_, byte) => byteCharacter(byte));
  const vocab = vocabularyOf([...alphabet, ...merges.map(([left, right]) => left + right)]);
  const firstId = Object.keys(vocab).length;
  const added = [
    ...LLAMA3_SPECIALS.map((content, index) => special(content, firstId + index)),
    ...(options.extraTokens ?? []).map((token, index) =>
      special(String(token.content), firstId + LLAMA3_SPECIALS.length + index, token),
    ),
  ];
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: LLAMA3_SPLIT }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: bosPostProcessor('<|begin_of_text|>', firstId),
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', unk_token: null, byte_fallback: false, ignore_merges: true, vocab, merges },
  };
  const tokenizerConfig = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: '<|begin_of_text|>',
    eos_token: '<|end_of_text|>',
    chat_template: options.template ?? LLAMA3_TEMPLATE,
  };
  return { tokenizer, tokenizerConfig };
}

/**
 * `prepend`: Prepend and Replace normalizers (Llama-2 as first converted); `first` and `always`: a Metaspace
 * pre-tokenizer (`legacy: false` and `legacy: true`); `never`: without `add_prefix_space`.
 */
export type SentencePieceVariant = 'prepend' | 'first' | 'always' | 'never';

/** A byte-fallback BPE tokenizer in Llama-2's shape. */
export function sentencePieceFiles(
  variant: SentencePieceVariant,
  options: { template?: string } = {},
): TokenizerFiles & { tokenizer: Record<string, unknown>; tokenizerConfig: Record<string, unknown> } {
  const words = CORPUS.split(/[ \n]/).map((word) => [...`▁${word}`]);
  const merges = trainMerges(words, 250);
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const letters = words.flat().filter((letter) => !'今日😀'.includes(letter));
  const merged = merges.map(([left, right]) => left + right);
  const vocab = vocabularyOf(['<unk>', '<s>', '</s>', ...bytes, '▁', ...letters, ...merged]);
  const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: variant, split: false };
  const spaces = [
    { type: 'Prepend', prepend: '▁' },
    { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
  ];
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => special(content, id)),
    normalizer: variant === 'prepend' ? { type: 'Sequence', normalizers: spaces } : null,
    pre_tokenizer: variant === 'prepend' ? null : metaspace,
    post_processor: bosPostProcessor('<s>', 1),
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(variant === 'never' ? [] : [{ type: 'Strip', content: ' ', start: 1, stop: 0 }]),
      ],
    },
    model: { type: 'BPE', unk_token: '<unk>', fuse_unk: true, byte_fallback: true, vocab, merges },
  };
  const tokenizerConfig = {
    tokenizer_class: 'LlamaTokenizer',
    legacy: variant === 'prepend' || variant === 'always',
    add_prefix_space: variant !== 'never',
    bos_token: { __type: 'AddedToken', content: '<s>', lstrip: false, normalized: false },
    eos_token: { __type: 'AddedToken', content: '</s>', lstrip: false, normalized: false },
    unk_token: '<unk>',
    chat_template: options.template ?? LLAMA2_TEMPLATE,
  };
  return { tokenizer, tokenizerConfig };
}

/** Llama-2's format: the system prompt is concatenated into the first user message, roles must alternate. */
const LLAMA2_TEMPLATE =
  "{% set system = '' %}{% set rest = messages %}{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}{% set rest = messages[1:] %}{% endif %}{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{% if loop.first %}{% set content = system + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

function bosPostProcessor(content: string, id: number) {
  return {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: content, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
  };
}

function byteLevel(text: string): string {
  return Array.from(new TextEncoder().encode(text), byteCharacter).join('');
}

/** GPT-2's alphabet: a printable byte is itself, the n-th other byte is U+0100 + n. */
function byteCharacter(byte: number): string {
  const printable = (code: number) =>
    (code >= 33 && code <= 126) || (code >= 161 && code <= 255 && code !== 173);
  if (printable(byte)) return String.fromCharCode(byte);
  const before = Array.from({ length: byte }, (_, code) => code).filter((code) => !printable(code)).length;
  return String.fromCharCode(0x100 + before);
}
