/** Text → ids with Hugging Face's own normalizer, pre-tokenizer and model, and no way to a control token. */
import { Tokenizer } from '@huggingface/tokenizers';
import { type ControlTokens, splitAtTokens, withoutReachableControl } from './control-tokens';
import { TokenizerError } from './errors';
import type { ParsedTokenizerFiles } from './files';

export class PlainEncoder {
  readonly #library: Tokenizer;
  readonly #tokens: ControlTokens;

  /** @throws {TokenizerError} when the library knows no such component or cannot compile its patterns */
  constructor(files: ParsedTokenizerFiles, tokens: ControlTokens) {
    this.#tokens = tokens;
    const json = {
      ...files.tokenizer,
      model: withoutReachableControl(files.tokenizer.model, tokens.control),
      // The library's own matching of added tokens knows no origin of a text: it is done outside instead.
      added_tokens: [],
      post_processor: null,
    };
    try {
      this.#library = new Tokenizer(json, files.tokenizerConfig);
    } catch (cause) {
      const found = cause instanceof Error ? cause.message : String(cause);
      throw new TokenizerError(
        files.names.tokenizer,
        '',
        'components the tokenizer library supports',
        found,
        {
          cause,
        },
      );
    }
  }

  /**
   * @param text plain text; lone surrogates count as U+FFFD, as in every UTF-8 encoder
   * @param first whether the text opens the prompt, a BOS put before it aside: a Metaspace pre-tokenizer with `prepend_scheme: "first"` puts its
   *   space only there
   */
  encode(text: string, first: boolean): number[] {
    const ids: number[] = [];
    const wellFormed = text.replace(/\p{Surrogate}/gu, '\uFFFD');
    for (const [index, section] of splitAtTokens(wellFormed, this.#tokens.words).entries()) {
      if ('token' in section) ids.push(section.token.id);
      else for (const id of this.#encodeSection(section.text, first && index === 0)) ids.push(id);
    }
    return ids;
  }

  #encodeSection(text: string, first: boolean): number[] {
    const { normalizer, pre_tokenizer, model } = this.#library;
    if (model === null) return [];
    const normalized = normalizer?.normalize(text) ?? text;
    if (normalized === '') return [];
    const words = pre_tokenizer?.pre_tokenize(normalized, { section_index: first ? 0 : 1 }) ?? [normalized];
    const ids: number[] = [];
    for (const token of model._call(words)) {
      const id = model.tokens_to_ids.get(token) ?? model.unk_token_id;
      if (id !== undefined) ids.push(id);
    }
    return ids;
  }
}
