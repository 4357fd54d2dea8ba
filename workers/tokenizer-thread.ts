/**
 * A thread of its own, with a deadline, for what a model brings along as code: its chat template and its tokenizer's
 * patterns. One that does not come to an end is stopped, and the model stays loaded.
 */

import type { ChatEncoder } from '../src/chat/text-generator';
import { type ChatMessage, ChatTokenizer, TokenizerTimeoutError } from '../src/tokenizer';
import { RemoteError, serializeError, type WireError } from './protocol';

/** The part of a Worker that is used. */
export type ThreadLike = Pick<Worker, 'postMessage' | 'addEventListener' | 'terminate'>;

/** Name of a worker that is to serve as such a thread. */
export const tokenizerThreadName = 'mergequant-tokenizer';

/** Long prompts of slow devices take seconds. */
export const tokenizerDeadlineMs = 10_000;

type Request =
  | { readonly files: readonly (readonly [name: string, text: string])[] }
  | { readonly messages: readonly ChatMessage[] };

type Answer = { readonly ids: readonly number[] } | { readonly error: WireError };

/** The browser does not start such a thread here. */
class NoThreadError extends Error {}

export class TokenizerThread {
  #thread: ThreadLike | null = null;
  #answered: (answer: Answer) => void = () => undefined;
  #failed: (error: Error) => void = () => undefined;

  /**
   * @param texts the tokenizer's files by name
   * @param open starts a worker that calls {@link serveTokenizer}
   * @param inPlace does the same here, where no such worker can be started
   */
  constructor(
    readonly texts: ReadonlyMap<string, string>,
    readonly open: () => ThreadLike,
    readonly inPlace: ChatEncoder,
    readonly deadlineMs = tokenizerDeadlineMs,
  ) {}

  /**
   * Ids of a conversation that the assistant is to answer; one at a time. A thread that was stopped is started anew.
   * @throws TokenizerTimeoutError; RemoteError with the name of what the template or the tokenizer threw
   */
  async encodeChat(messages: readonly ChatMessage[]): Promise<readonly number[]> {
    try {
      if (!this.#thread) {
        this.#thread = this.#start();
        await this.#ask({ files: [...this.texts] });
      }
      return await this.#ask({ messages });
    } catch (error) {
      if (error instanceof NoThreadError) return this.inPlace(messages);
      throw error;
    }
  }

  close(): void {
    this.#thread?.terminate();
    this.#thread = null;
  }

  #start(): ThreadLike {
    let thread: ThreadLike;
    try {
      thread = this.open();
    } catch (cause) {
      throw new NoThreadError('no thread', { cause });
    }
    thread.addEventListener('message', ({ data }: MessageEvent<Answer>) => this.#answered(data));
    thread.addEventListener('error', (event) => {
      event.preventDefault(); // it is no failure of the thread that started this one
      this.#failed(new NoThreadError(event.message));
    });
    return thread;
  }

  async #ask(request: Request): Promise<readonly number[]> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const answer = new Promise<Answer>((resolve, reject) => {
      this.#answered = resolve;
      this.#failed = reject;
      timer = setTimeout(() => reject(new TokenizerTimeoutError(this.deadlineMs)), this.deadlineMs);
    });
    try {
      this.#thread!.postMessage(request);
      const answered = await answer;
      if ('error' in answered) throw new RemoteError(answered.error);
      return answered.ids;
    } catch (error) {
      if (!(error instanceof RemoteError)) this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The other end: answers every message. */
export function serveTokenizer(scope: Pick<DedicatedWorkerGlobalScope, 'postMessage' | 'addEventListener'>) {
  let tokenizer: ChatTokenizer | null = null;
  const answer = (request: Request): readonly number[] => {
    if ('messages' in request) return tokenizer!.encodeChat(request.messages, { addGenerationPrompt: true });
    tokenizer = ChatTokenizer.fromFiles(new Map(request.files));
    return [];
  };
  scope.addEventListener('message', ({ data }: MessageEvent<Request>) => {
    try {
      scope.postMessage({ ids: answer(data) } satisfies Answer);
    } catch (error) {
      scope.postMessage({ error: serializeError(error) } satisfies Answer);
    }
  });
}
