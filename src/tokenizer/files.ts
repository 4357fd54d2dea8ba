/** The edge where the three Hugging Face tokenizer files come in: everything after `parseTokenizerFiles` is typed. */
import * as v from 'valibot';
import { TokenizerError } from './errors';

/** Ids above this would only make arrays huge: the largest vocabularies in use have about 260,000 tokens. */
const MAX_TOKEN_ID = 2 ** 24;

/** Names under which the files are shown in errors. */
export interface TokenizerFileNames {
  readonly tokenizer: string;
  readonly tokenizerConfig: string;
  readonly generationConfig: string;
}

/** Parsed JSON of a model's tokenizer files, not yet trusted. */
export interface TokenizerFiles {
  readonly tokenizer: unknown;
  readonly tokenizerConfig: unknown;
  readonly generationConfig?: unknown;
  /** Text of `chat_template.jinja`, where a model keeps its template outside tokenizer_config.json. */
  readonly chatTemplate?: string;
  readonly names?: Partial<TokenizerFileNames>;
}

/**
 * Parses the texts of a model folder or artifact by their Hugging Face names: tokenizer.json and
 * tokenizer_config.json, and where present generation_config.json and chat_template.jinja.
 * @throws {TokenizerError} on a missing file or malformed JSON
 */
export function readTokenizerFiles(texts: ReadonlyMap<string, string>): TokenizerFiles {
  const required = (name: string): unknown => {
    const text = texts.get(name);
    if (text === undefined) throw new TokenizerError(name, '', 'the file', 'none');
    return parseJson(text, name);
  };
  const generation = texts.get('generation_config.json');
  const chatTemplate = texts.get('chat_template.jinja');
  return {
    tokenizer: required('tokenizer.json'),
    tokenizerConfig: required('tokenizer_config.json'),
    ...(generation !== undefined && { generationConfig: parseJson(generation, 'generation_config.json') }),
    ...(chatTemplate !== undefined && { chatTemplate }),
  };
}

function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new TokenizerError(name, '', 'JSON', found, { cause });
  }
}

const tokenId = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_TOKEN_ID));

/** Checked by hand: a schema per entry would cost seconds on a vocabulary of 128,000 tokens. */
const vocabulary = v.custom<Record<string, number>>(
  (value) =>
    isPlainObject(value) &&
    Object.values(value).every(
      (id) => Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MAX_TOKEN_ID,
    ),
  'an object of token → id (an integer from 0 to 2^24)',
);

const merges = v.custom<[string, string][] | string[]>(
  (value) =>
    Array.isArray(value) &&
    (value.every((merge) => typeof merge === 'string' && merge.includes(' ')) ||
      value.every(
        (merge) =>
          Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === 'string'),
      )),
  'an array of "left right" strings or of [left, right] pairs',
);

const pieces = v.custom<[string, number][]>(
  (value) =>
    Array.isArray(value) &&
    value.length <= MAX_TOKEN_ID &&
    value.every(
      (piece) => Array.isArray(piece) && typeof piece[0] === 'string' && typeof piece[1] === 'number',
    ),
  'an array of [piece, score]',
);

const bpeModel = v.looseObject({
  type: v.literal('BPE'),
  vocab: vocabulary,
  merges,
  unk_token: v.nullish(v.string()),
  byte_fallback: v.nullish(v.boolean()),
});

const unigramModel = v.looseObject({
  type: v.literal('Unigram'),
  vocab: pieces,
  unk_id: v.nullish(tokenId),
  // The tokenizer library has no byte fallback for Unigram: it would silently turn such text into unknown tokens.
  byte_fallback: v.nullish(v.literal(false)),
});

const component = v.nullish(v.looseObject({ type: v.string() }), null);

const addedToken = v.object({
  id: tokenId,
  content: v.pipe(v.string(), v.minLength(1)),
  special: v.optional(v.boolean(), false),
  lstrip: v.optional(v.boolean(), false),
  rstrip: v.optional(v.boolean(), false),
});

const tokenizerSchema = v.looseObject({
  model: v.variant('type', [bpeModel, unigramModel]),
  added_tokens: v.optional(v.array(addedToken), []),
  normalizer: component,
  pre_tokenizer: component,
  decoder: v.looseObject({ type: v.string() }),
});

const tokenName = v.nullish(v.union([v.string(), v.looseObject({ content: v.string() })]));

const tokenizerConfigSchema = v.looseObject({
  bos_token: tokenName,
  eos_token: tokenName,
  unk_token: tokenName,
  sep_token: tokenName,
  pad_token: tokenName,
  cls_token: tokenName,
  mask_token: tokenName,
  chat_template: v.nullish(
    v.union([v.string(), v.array(v.looseObject({ name: v.string(), template: v.string() }))]),
  ),
});

const generationConfigSchema = v.looseObject({
  bos_token_id: v.nullish(tokenId),
  // Lazy instead of a union, whose error would not say which element is wrong.
  eos_token_id: v.nullish(v.lazy((ids) => (Array.isArray(ids) ? v.array(tokenId) : tokenId))),
});

export type AddedToken = v.InferOutput<typeof addedToken>;
export type TokenizerJson = v.InferOutput<typeof tokenizerSchema>;
export type TokenizerConfig = v.InferOutput<typeof tokenizerConfigSchema>;
export type GenerationConfig = v.InferOutput<typeof generationConfigSchema>;

export interface ParsedTokenizerFiles {
  readonly tokenizer: TokenizerJson;
  readonly tokenizerConfig: TokenizerConfig;
  readonly generationConfig: GenerationConfig;
  readonly chatTemplate: string | null;
  readonly names: TokenizerFileNames;
}

/**
 * Validates the files of one model. Unknown fields pass; a field this room reads must have the right type.
 * @throws {TokenizerError} naming file, field, expected and found
 */
export function parseTokenizerFiles(files: TokenizerFiles): ParsedTokenizerFiles {
  const names: TokenizerFileNames = {
    tokenizer: files.names?.tokenizer ?? 'tokenizer.json',
    tokenizerConfig: files.names?.tokenizerConfig ?? 'tokenizer_config.json',
    generationConfig: files.names?.generationConfig ?? 'generation_config.json',
  };
  const tokenizer = parse(tokenizerSchema, withModelType(files.tokenizer), names.tokenizer);
  const tokenizerConfig = parse(tokenizerConfigSchema, files.tokenizerConfig, names.tokenizerConfig);
  const generationConfig = parse(
    generationConfigSchema,
    files.generationConfig ?? {},
    names.generationConfig,
  );
  const chatTemplate = files.chatTemplate ?? defaultTemplate(tokenizerConfig, names.tokenizerConfig);
  return { tokenizer, tokenizerConfig, generationConfig, chatTemplate, names };
}

/** The token string of a config field that is either the string or an AddedToken object. */
export function tokenText(field: TokenizerConfig['bos_token']): string | null {
  return (typeof field === 'object' ? field?.content : field) ?? null;
}

/** Files written before the field existed carry no `model.type`; merges mark them as BPE. */
function withModelType(tokenizer: unknown): unknown {
  if (!isPlainObject(tokenizer) || !isPlainObject(tokenizer.model)) return tokenizer;
  const { model } = tokenizer;
  if (model.type !== undefined || !('merges' in model)) return tokenizer;
  return { ...tokenizer, model: { ...model, type: 'BPE' } };
}

function defaultTemplate(config: TokenizerConfig, file: string): string | null {
  const template = config.chat_template ?? null;
  if (template === null || typeof template === 'string') return template;
  const named = template.find(({ name }) => name === 'default');
  if (named !== undefined) return named.template;
  const names = template.map(({ name }) => name).join(', ');
  throw new TokenizerError(
    file,
    'chat_template',
    'a template named "default"',
    names === '' ? 'none' : names,
  );
}

function parse<S extends v.GenericSchema>(schema: S, value: unknown, file: string): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const expected = issue.type === 'custom' ? issue.message : (issue.expected ?? issue.message);
  throw new TokenizerError(file, v.getDotPath(issue) ?? '', expected, issue.received);
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
