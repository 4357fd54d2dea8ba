/** Text in, text out: chat template, tokenizer, engine, stop strings and the incremental detokenizer put together. */
import type { Engine } from '../engine/engine';
import type { FinishReason, ReplyStats, SamplingOptions } from '../engine/types';
import { type ChatMessage, type ChatTokenizer, IncrementalDetokenizer } from '../tokenizer';
import { StopStringMatcher } from './stop-strings';

export interface TextOptions {
  readonly sampling: SamplingOptions;
  readonly maxTokens: number;
  /** Strings that end the reply; they are not part of its text. */
  readonly stop?: readonly string[];
  readonly signal?: AbortSignal;
}

export interface ChatRequest extends TextOptions {
  readonly messages: readonly ChatMessage[];
}

export interface TextReply {
  readonly text: string;
  /** Reply tokens, with the stop token when one ended it. */
  readonly tokenIds: readonly number[];
  readonly promptIds: readonly number[];
  readonly finishReason: FinishReason;
  readonly stats: ReplyStats;
}

export class TextGenerator {
  constructor(
    readonly engine: Engine,
    readonly tokenizer: ChatTokenizer,
  ) {}

  /** Answers the last message through the model's chat template. @throws what the template and the engine throw */
  chat(request: ChatRequest, onDelta: (text: string) => void): Promise<TextReply> {
    const promptIds = this.tokenizer.encodeChat(request.messages, { addGenerationPrompt: true });
    return this.complete(promptIds, request, onDelta);
  }

  /** Continues a prompt given as token ids. `onDelta` receives whole characters only. */
  async complete(
    promptIds: readonly number[],
    options: TextOptions,
    onDelta: (text: string) => void,
  ): Promise<TextReply> {
    const { sampling, maxTokens, signal } = options;
    const detokenizer = new IncrementalDetokenizer(this.tokenizer);
    const matcher = new StopStringMatcher(options.stop ?? []);
    const stopTokenIds = this.tokenizer.eosTokenIds;
    const tokenIds: number[] = [];
    let text = '';
    const emit = (delta: string) => {
      text += delta;
      if (delta !== '') onDelta(delta);
    };
    const tokens = this.engine.generate(promptIds, { sampling, maxTokens, stopTokenIds, signal });
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
    return { text, tokenIds, promptIds, ...result.value };
  }
}
