/** A chat model's tokenizer: text and conversations → ids, ids → text. Pure; no state is shared between instances. */
import { type ChatMessage, ChatTemplate } from './chat-template';
import { ControlTokens, splitAtTokens } from './control-tokens';
import { compileDecoder } from './decode-stages';
import { type DecodeTable, IncrementalDetokenizer } from './detokenizer';
import { ChatTemplateError, TokenizerError } from './errors';
import {
  type ParsedTokenizerFiles,
  parseTokenizerFiles,
  readTokenizerFiles,
  type TokenizerFiles,
  tokenText,
} from './files';
import { PlainEncoder } from './plain-encoder';
import { compileTokenBytes, type TokenBytes } from './token-bytes';

/** Ends a turn in Llama-3's format; some of its tokenizer configs name only `<|end_of_text|>` as end. */
const END_OF_TURN = '<|eot_id|>';

/** Config fields that templates may use as variables of the same name. */
const TEMPLATE_TOKENS = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;

/** Runs what a checkpoint's template and patterns do to a text, and may stop it: to whoever loads it, that is untrusted code. */
export type Guard = <T>(work: () => T) => T;

const unguarded: Guard = (work) => work();

export class ChatTokenizer {
  /** One more than the largest id: what logits and embeddings must at least offer. */
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  /** Every id that ends a reply, ascending: tokenizer_config's, generation_config's, and Llama-3's `<|eot_id|>`. */
  readonly eosTokenIds: readonly number[];
  /** For `IncrementalDetokenizer`. */
  readonly decodeTable: DecodeTable;
  readonly #encoder: PlainEncoder;
  readonly #tokens: ControlTokens;
  readonly #template: ChatTemplate | null;
  readonly #templateFile: string;
  readonly #tokenBytes: TokenBytes;
  readonly #guard: Guard;

  /**
   * @param files parsed JSON of tokenizer.json, tokenizer_config.json and, where there is one, generation_config.json
   * @throws {TokenizerError} naming file, field, expected and found
   * @throws {ChatTemplateError} when the chat template is too large; other template faults show in `encodeChat`
   */
  static create(files: TokenizerFiles, guard = unguarded): ChatTokenizer {
    return new ChatTokenizer(parseTokenizerFiles(files), guard);
  }

  /**
   * The same from the files' texts by name, as they lie in a model folder or an artifact.
   * @throws {TokenizerError} also on a missing file or malformed JSON
   */
  static fromFiles(texts: ReadonlyMap<string, string>, guard = unguarded): ChatTokenizer {
    return ChatTokenizer.create(readTokenizerFiles(texts), guard);
  }

  private constructor(files: ParsedTokenizerFiles, guard: Guard) {
    this.#guard = guard;
    const { tokenizer, tokenizerConfig, generationConfig, names } = files;
    const idOf = tokenIds(files);
    this.#tokens = new ControlTokens(tokenizer.added_tokens);
    this.#encoder = new PlainEncoder(files, this.#tokens);
    this.decodeTable = decodeTable(files, idOf, this.#tokens);
    this.#tokenBytes = compileTokenBytes(tokenizer.decoder, names.tokenizer);
    this.vocabSize = this.decodeTable.tokens.length;
    this.bosTokenId = configId(files, 'bos_token', idOf) ?? generationConfig.bos_token_id ?? null;
    const ends = [
      configId(files, 'eos_token', idOf),
      ...[generationConfig.eos_token_id ?? []].flat(),
      this.#tokens.control.find((token) => token.content === END_OF_TURN)?.id,
    ];
    this.eosTokenIds = [...new Set(ends.filter((id) => id !== null && id !== undefined))].sort(
      (a, b) => a - b,
    );
    this.#templateFile = names.tokenizerConfig;
    const variables = TEMPLATE_TOKENS.flatMap((field) => {
      const text = tokenText(tokenizerConfig[field]);
      return text === null ? [] : [[field, text] as const];
    });
    this.#template =
      files.chatTemplate === null
        ? null
        : new ChatTemplate(
            files.chatTemplate,
            this.#templateFile,
            Object.fromEntries(variables),
            this.#tokens,
          );
  }

  get hasChatTemplate(): boolean {
    return this.#template !== null;
  }

  /**
   * Ids of plain text. Whatever it says, it never yields a control token: `</s>` or `<|eot_id|>` are letters here.
   * @param options.addBos put the beginning-of-sequence id first, where the model has one
   */
  encodeText(text: string, options: { readonly addBos: boolean }): number[] {
    const ids = this.#guard(() => this.#encoder.encode(text, true));
    if (options.addBos && this.bosTokenId !== null) ids.unshift(this.bosTokenId);
    return ids;
  }

  /**
   * Ids of a conversation in the model's chat format. Only the template writes control tokens; message text never
   * does. There is no default system prompt besides what a template itself adds.
   * @throws {ChatTemplateError} when there is no template, it is faulty, or it refuses the conversation
   */
  encodeChat(messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }): number[] {
    return this.#guard(() => this.#encodeChat(messages, options));
  }

  #encodeChat(
    messages: readonly ChatMessage[],
    options: { readonly addGenerationPrompt: boolean },
  ): number[] {
    const { text, mask } = this.#requireTemplate().renderMasked(messages, options.addGenerationPrompt);
    const ids: number[] = [];
    for (const [index, section] of splitAtTokens(text, this.#tokens.control).entries()) {
      if ('token' in section) ids.push(section.token.id);
      else for (const id of this.#encoder.encode(mask.unmask(section.text), index === 0)) ids.push(id);
    }
    return ids;
  }

  /** The conversation as the template writes it: for people to read, not to encode. @throws {ChatTemplateError} */
  renderChat(messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }): string {
    const template = this.#requireTemplate();
    return this.#guard(() => template.render(messages, options.addGenerationPrompt));
  }

  /** Text of ids, without special tokens and without cleaning spaces; ids outside the vocabulary give no text. */
  decode(ids: Iterable<number>): string {
    const detokenizer = new IncrementalDetokenizer(this);
    const texts: string[] = [];
    for (const id of ids) texts.push(detokenizer.push(id));
    texts.push(detokenizer.flush());
    return texts.join('');
  }

  /**
   * What a token adds to the text, in UTF-8; it may begin or end inside a character. Null for special tokens and ids
   * outside the vocabulary, which add nothing. A space that decoding strips from the whole text's start is still there.
   */
  tokenBytes(id: number): Uint8Array<ArrayBuffer> | null {
    const { tokens, skippedIds, addedIds } = this.decodeTable;
    const token = tokens[id];
    return token === undefined || skippedIds.has(id) ? null : this.#tokenBytes(token, addedIds.has(id));
  }

  #requireTemplate(): ChatTemplate {
    if (this.#template === null) {
      throw new ChatTemplateError(this.#templateFile, 'the model has none; use plain text instead of a chat');
    }
    return this.#template;
  }
}

/** Token string → id; an added token overrides the vocabulary. */
function tokenIds({ tokenizer }: ParsedTokenizerFiles): Map<string, number> {
  const { model } = tokenizer;
  const entries: [string, number][] =
    model.type === 'Unigram' ? model.vocab.map(([piece], id) => [piece, id]) : Object.entries(model.vocab);
  const ids = new Map(entries);
  for (const token of tokenizer.added_tokens) ids.set(token.content, token.id);
  return ids;
}

function decodeTable(
  files: ParsedTokenizerFiles,
  idOf: ReadonlyMap<string, number>,
  control: ControlTokens,
): DecodeTable {
  const { tokenizer, names } = files;
  const tokens: (string | undefined)[] = [];
  for (const [content, id] of idOf) tokens[id] = content;
  // Last, for a file whose vocabulary gives another name to the id of an added token.
  for (const { content, id } of tokenizer.added_tokens) tokens[id] = content;
  return {
    tokens,
    addedIds: new Set(tokenizer.added_tokens.map((token) => token.id)),
    skippedIds: control.specialIds,
    stages: compileDecoder(tokenizer.decoder, names.tokenizer),
  };
}

/** Id of a token that tokenizer_config names. @throws {TokenizerError} when tokenizer.json has no such token */
function configId(
  files: ParsedTokenizerFiles,
  field: 'bos_token' | 'eos_token',
  idOf: ReadonlyMap<string, number>,
): number | null {
  const text = tokenText(files.tokenizerConfig[field]);
  if (text === null) return null;
  const id = idOf.get(text);
  if (id === undefined) {
    const expected = `a token of ${files.names.tokenizer}`;
    throw new TokenizerError(files.names.tokenizerConfig, field, expected, JSON.stringify(text));
  }
  return id;
}
