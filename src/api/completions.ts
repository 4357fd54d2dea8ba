/** `chat.completions.create` over any engine: one in a worker, or one in this process. */
import type { OnDelta } from '../chat/text-generator';
import type { TextLogprob, TextLogprobs } from '../chat/text-logprobs';
import type { FinishReason, ReplyStats } from '../engine/types';
import { type EngineRequest, parseChatRequest, type RequestDefaults } from './chat-request';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  CompletionFinishReason,
  CompletionLogprobs,
  CompletionUsage,
  TokenLogprob,
} from './openai-types';
import { TextQueue } from './text-queue';

/** What answers: it takes one request at a time. */
export interface ChatBackend {
  readonly modelName: string;
  readonly defaults: RequestDefaults;
  /** Streams text through `onDelta`. Aborting `signal` ends the reply; it resolves with what there is. */
  chat(
    request: EngineRequest,
    onDelta: OnDelta,
    signal: AbortSignal,
  ): Promise<{
    readonly text: string;
    readonly logprobs?: readonly TextLogprobs[];
    readonly finishReason: FinishReason;
    readonly stats: ReplyStats;
  }>;
}

/** What concerns the call, not the reply. */
export interface CreateOptions {
  /** Ends the reply, or the wait for it; the call then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

type Reply = Awaited<ReturnType<ChatBackend['chat']>>;

/** OpenAI's `chat.completions`. One request is answered at a time; the others wait for their turn. */
export class ChatCompletions {
  /** Resolves when the engine is free: requests are answered one after the other. */
  #free: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(
    /** @internal */
    readonly backend: ChatBackend,
  ) {}

  /**
   * Answers a conversation, whole or as a stream of chunks. Leaving the stream's loop early ends the reply.
   * @throws RequestError for a bad request; the signal's reason; what tokenizer, engine and worker throw (by name)
   */
  create(
    request: ChatCompletionRequest & { readonly stream: true },
    options?: CreateOptions,
  ): Promise<AsyncGenerator<ChatCompletionChunk, void, undefined>>;
  create(
    request: ChatCompletionRequest & { readonly stream?: false },
    options?: CreateOptions,
  ): Promise<ChatCompletion>;
  create(
    request: ChatCompletionRequest,
    options?: CreateOptions,
  ): Promise<ChatCompletion | AsyncGenerator<ChatCompletionChunk, void, undefined>>;
  async create(request: ChatCompletionRequest, options: CreateOptions = {}) {
    const checked = parseChatRequest(request, this.backend.defaults);
    options.signal?.throwIfAborted();
    return checked.stream ? this.#stream(checked, options.signal) : this.#whole(checked, options.signal);
  }

  async #whole(request: EngineRequest, signal: AbortSignal | undefined): Promise<ChatCompletion> {
    const { text, logprobs, finishReason, stats } = await this.#answer(request, () => undefined, signal);
    return {
      id: newId(),
      object: 'chat.completion',
      created: nowSeconds(),
      model: this.backend.modelName,
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          finish_reason: finishReasonOf(finishReason),
          logprobs: logprobs ? logprobsOf(logprobs) : null,
        },
      ],
      usage: usageOf(stats),
      stats,
    };
  }

  async *#stream(
    request: EngineRequest,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ChatCompletionChunk, void, undefined> {
    const head = {
      id: newId(),
      object: 'chat.completion.chunk' as const,
      created: nowSeconds(),
      model: this.backend.modelName,
    };
    const chunk = (
      delta: ChatCompletionChunk['choices'][number]['delta'],
      finish_reason: CompletionFinishReason | null = null,
      logprobs: CompletionLogprobs | null = null,
    ): ChatCompletionChunk => ({ ...head, choices: [{ index: 0, delta, finish_reason, logprobs }] });
    const left = new AbortController();
    const queue = new TextQueue();
    const combined = signal ? AbortSignal.any([signal, left.signal]) : left.signal;
    const reply = this.#answer(request, (text, logprobs) => queue.push(text, logprobs), combined);
    reply.then(
      () => queue.end(),
      (error) => queue.end(error),
    );
    try {
      yield chunk({ role: 'assistant', content: '' });
      for await (const { text: content, logprobs } of queue) {
        yield chunk({ content }, null, logprobs.length > 0 ? logprobsOf(logprobs) : null);
      }
      const { finishReason, stats } = await reply;
      yield chunk({}, finishReasonOf(finishReason));
      if (request.includeUsage) yield { ...head, choices: [], usage: usageOf(stats) };
    } finally {
      left.abort(new DOMException('the stream was left', 'AbortError'));
    }
  }

  /** Waits for its turn, then for the reply. @throws the signal's reason when aborted at any time */
  async #answer(
    request: EngineRequest,
    onDelta: OnDelta,
    signal = new AbortController().signal,
  ): Promise<Reply> {
    const before = this.#free;
    let done: () => void = () => undefined;
    this.#free = new Promise<void>((resolve) => {
      done = resolve;
    });
    try {
      await before;
      signal.throwIfAborted();
      const reply = await this.backend.chat(request, onDelta, signal);
      signal.throwIfAborted();
      return reply;
    } finally {
      done();
    }
  }
}

function newId(): string {
  return `chatcmpl-${crypto.randomUUID().replaceAll('-', '')}`;
}

function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** OpenAI's number for a token that cannot come: JSON has no −∞. */
const impossibleLogprob = -9999;

function logprobsOf(tokens: readonly TextLogprobs[]): CompletionLogprobs {
  const finite = ({ token, logprob, bytes }: TextLogprob): TokenLogprob => ({
    token,
    logprob: Math.max(logprob, impossibleLogprob),
    bytes,
  });
  const content = tokens.map((token) => ({ ...finite(token), top_logprobs: token.top.map(finite) }));
  return { content, refusal: null };
}

function finishReasonOf(reason: FinishReason): CompletionFinishReason {
  return reason === 'length' || reason === 'context' ? 'length' : 'stop';
}

function usageOf({ promptTokens, cachedTokens, replyTokens }: ReplyStats): CompletionUsage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: replyTokens,
    total_tokens: promptTokens + replyTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}
