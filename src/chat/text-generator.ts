/** Text in, text out: chat template, tokenizer, engine, stop strings and the incremental detokenizer put together. */
import type { Engine } from '../engine/engine';
import type { DrawnLogprobs } from '../engine/logprobs';
import type { FinishReason, GenerateOptions, ReplyStats, SamplingOptions } from '../engine/types';
import { type ChatMessage, type ChatTokenizer, IncrementalDetokenizer } from '../tokenizer';
import { JsonConstraint, JsonVocabulary } from './json-constraint';
import { StopStringMatcher } from './stop-strings';
import { type TextLogprobs, TokenDescriber } from './text-logprobs';

export interface TextOptions {
  readonly sampling: SamplingOptions;
  readonly maxTokens: number;
  /** Strings that end the reply; they are not part of its text. */
  readonly stop?: readonly string[];
  readonly signal?: AbortSignal;
  /** Token id → what is added to its logit. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** Log-probabilities of every token, and of this many of the most probable ones; none when left out. */
  readonly topLogprobs?: number;
  /** The reply is one JSON object, whole unless its length is cut. */
  readonly json?: boolean;
}

/**
 * A piece of the reply: whole characters, and the log-probabilities of the tokens that came since the last piece, where they
 * are asked for. Text may be '' then: a token can be part of a character.
 */
export type OnDelta = (text: string, logprobs?: readonly TextLogprobs[]) => void;

export interface ChatRequest extends TextOptions {
  readonly messages: readonly ChatMessage[];
}

export interface TextReply {
  readonly text: string;
  /** Reply tokens, with the stop token when one ended it. */
  readonly tokenIds: readonly number[];
  readonly promptIds: readonly number[];
  /** Of every token but the stop token that ended the reply; only when asked for. */
  readonly logprobs?: readonly TextLogprobs[];
  readonly finishReason: FinishReason;
  readonly stats: ReplyStats;
}

/** The ids of a conversation that the assistant is to answer. */
export type ChatEncoder = (
  messages: readonly ChatMessage[],
) => readonly number[] | Promise<readonly number[]>;

export class TextGenerator {
  /** Made by the first reply in JSON mode. */
  #json: JsonVocabulary | null = null;

  /** @param encodeChat makes prompts, where the tokenizer itself is not to: in a thread of its own */
  constructor(
    readonly engine: Engine,
    readonly tokenizer: ChatTokenizer,
    readonly encodeChat: ChatEncoder = (messages) =>
      tokenizer.encodeChat(messages, { addGenerationPrompt: true }),
  ) {}

  /** Answers the last message through the model's chat template. @throws what the template and the engine throw */
  async chat(request: ChatRequest, onDelta: OnDelta): Promise<TextReply> {
    const promptIds = await this.encodeChat(request.messages);
    return this.complete(promptIds, request, onDelta);
  }

  /**
   * Continues a prompt given as token ids.
   * @throws JsonVocabularyError, StopStringError, and what the engine throws
   */
  async complete(promptIds: readonly number[], options: TextOptions, onDelta: OnDelta): Promise<TextReply> {
    const detokenizer = new IncrementalDetokenizer(this.tokenizer);
    const matcher = new StopStringMatcher(options.stop ?? []);
    const tokenIds: number[] = [];
    const logprobs: TextLogprobs[] = [];
    let [text, told] = ['', 0];
    const emit = (delta: string) => {
      text += delta;
      if (logprobs.length > told) onDelta(delta, logprobs.slice(told));
      else if (delta !== '') onDelta(delta);
      told = logprobs.length;
    };
    const tokens = this.engine.generate(promptIds, this.#engineOptions(options, logprobs));
    let matched = false;
    let result = await tokens.next();
    while (!result.done) {
      tokenIds.push(result.value);
      const { emit: safe, stopped } = matcher.push(detokenizer.push(result.value));
      emit(safe);
      matched = stopped;
      result = await tokens.next(matched);
    }
    if (!matched) emit(matcher.push(detokenizer.flush()).emit + matcher.flush());
    const asked = options.topLogprobs === undefined ? {} : { logprobs };
    return { text, tokenIds, promptIds, ...asked, ...result.value };
  }

  /** The options in the engine's words; log-probabilities go to `logprobs` as the tokens come. */
  #engineOptions(options: TextOptions, logprobs: TextLogprobs[]): GenerateOptions {
    const { sampling, maxTokens, signal, logitBias, topLogprobs, json } = options;
    const stopTokenIds = this.tokenizer.eosTokenIds;
    const describer = new TokenDescriber(this.tokenizer);
    const onLogprobs = (drawn: DrawnLogprobs) => {
      if (!stopTokenIds.includes(drawn.id)) logprobs.push(describer.describe(drawn));
    };
    return {
      ...{ sampling, maxTokens, stopTokenIds, signal },
      ...(logitBias && {
        logitBias: new Map(Object.entries(logitBias).map(([id, bias]) => [Number(id), bias])),
      }),
      ...(topLogprobs !== undefined && { topLogprobs, onLogprobs }),
      ...(json && { constraint: new JsonConstraint(this.#jsonVocabulary()) }),
    };
  }

  #jsonVocabulary(): JsonVocabulary {
    this.#json ??= new JsonVocabulary(this.tokenizer, this.engine.weights.layout.config.vocabSize);
    return this.#json;
  }
}
