/**
 * The part of OpenAI's chat-completions interface that this engine speaks, with its names and shapes. Both entries of the package
 * export these types.
 *
 * @module chat-completions
 */
import type { ReplyStats } from '../engine/types';

/** One turn of a conversation. Text only. */
export interface ChatCompletionMessage {
  /** `developer` is what newer clients call `system`. */
  readonly role: 'system' | 'developer' | 'user' | 'assistant';
  /** A text, or parts of one, which are joined. */
  readonly content: string | readonly { readonly type: 'text'; readonly text: string }[];
}

/** What is left out falls back to the model's generation_config.json, then to OpenAI's defaults. */
export interface ChatCompletionRequest {
  /** At least one; what the model's chat template makes of them is the prompt. */
  readonly messages: readonly ChatCompletionMessage[];
  /** The loaded model answers whatever is named here. */
  readonly model?: string;
  /** Chunks as they come instead of the whole reply. */
  readonly stream?: boolean;
  /** `include_usage`: a last chunk with the usage. */
  readonly stream_options?: { readonly include_usage?: boolean } | null;
  /** 0 (greedy) to 2. */
  readonly temperature?: number | null;
  /** 0 to 1: draw from the most probable tokens whose probabilities add up to this. */
  readonly top_p?: number | null;
  /** Not OpenAI's: keep the k likeliest tokens; 0 keeps all. */
  readonly top_k?: number | null;
  /** Not OpenAI's: drop tokens less likely than this share of the likeliest. */
  readonly min_p?: number | null;
  /** Not OpenAI's: Hugging Face's repetition penalty; 1 is off. */
  readonly repetition_penalty?: number | null;
  /** −2 to 2, subtracted once from the logit of every token that the reply has. */
  readonly presence_penalty?: number | null;
  /** −2 to 2, subtracted from a token's logit for each time that the reply has it. */
  readonly frequency_penalty?: number | null;
  /** Same seed, model, messages and device: same reply. */
  readonly seed?: number | null;
  /** Up to 16 strings that end the reply and are not part of it. */
  readonly stop?: string | readonly string[] | null;
  /** Tokens of the reply; what the context has room for when left out. */
  readonly max_completion_tokens?: number | null;
  /** The older name of `max_completion_tokens`. */
  readonly max_tokens?: number | null;
  /** Only 1. */
  readonly n?: number | null;
  /**
   * `json_object`: the reply is one JSON object, by construction: tokens that could not continue it are never drawn. It is whole
   * unless `finish_reason` is `length`. Ask for JSON in the messages, too: the model decides what is in it. Not with `stop`.
   */
  readonly response_format?: { readonly type: 'text' | 'json_object' };
  /** Log-probabilities of the reply's tokens. */
  readonly logprobs?: boolean | null;
  /** With `logprobs`: the 0 to 20 most probable tokens in each one's place, too. */
  readonly top_logprobs?: number | null;
  /**
   * Token id (a decimal number as key) → −100 to 100, added to the token's logit before penalties and sampling: −100 as good as
   * forbids a token, 100 as good as forces it. Ids are the model's own.
   */
  readonly logit_bias?: Readonly<Record<string, number>> | null;
  /** Taken and not used. */
  readonly user?: string;
}

/** Tokens of one request. */
export interface CompletionUsage {
  readonly prompt_tokens: number;
  /** With the stop token, when one ended the reply. */
  readonly completion_tokens: number;
  readonly total_tokens: number;
  /** Prompt tokens that an earlier request had left in the cache. */
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** A token and ln p, of the model's own distribution: temperature, penalties, `logit_bias` and JSON mode do not enter. */
export interface TokenLogprob {
  /** What the token says; U+FFFD where it holds part of a character. A special token's name. */
  readonly token: string;
  /** −9999 for a token that the model rules out. */
  readonly logprob: number;
  /** UTF-8, to be joined with its neighbours' where a character is spread over tokens; null for special tokens. */
  readonly bytes: readonly number[] | null;
}

/** A token of the reply. */
export interface ContentTokenLogprob extends TokenLogprob {
  /** The `top_logprobs` most probable tokens in this place, best first. */
  readonly top_logprobs: readonly TokenLogprob[];
}

/**
 * Of every token of the reply but the one that ended it. With `stop`, the tokens that spelled the stop string are there, too. In a
 * stream each chunk has those of the tokens that came with it, even where its text is still held back.
 */
export interface CompletionLogprobs {
  readonly content: readonly ContentTokenLogprob[];
  readonly refusal: null;
}

/** `length`: `max_completion_tokens` or the end of the context. */
export type CompletionFinishReason = 'stop' | 'length';

/** A whole reply. */
export interface ChatCompletion {
  readonly id: string;
  readonly object: 'chat.completion';
  /** Seconds since 1970. */
  readonly created: number;
  /** The loaded model's name. */
  readonly model: string;
  /** Always one. */
  readonly choices: readonly [
    {
      readonly index: 0;
      readonly message: { readonly role: 'assistant'; readonly content: string; readonly refusal: null };
      readonly finish_reason: CompletionFinishReason;
      /** Null unless asked for. */
      readonly logprobs: CompletionLogprobs | null;
    },
  ];
  readonly usage: CompletionUsage;
  /** Not OpenAI's: what the engine measured. */
  readonly stats: ReplyStats;
}

/** A piece of a streamed reply. The first has the role, the next ones text, the last but the usage the reason of the end. */
export interface ChatCompletionChunk {
  readonly id: string;
  readonly object: 'chat.completion.chunk';
  readonly created: number;
  readonly model: string;
  /** Empty in the last chunk, which has the usage, when `stream_options.include_usage` asked for it. */
  readonly choices: readonly {
    readonly index: 0;
    readonly delta: { readonly role?: 'assistant'; readonly content?: string };
    readonly finish_reason: CompletionFinishReason | null;
    readonly logprobs: CompletionLogprobs | null;
  }[];
  readonly usage?: CompletionUsage | null;
}
