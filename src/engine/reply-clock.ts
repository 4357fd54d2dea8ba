/** When a reply's tokens came. */
import type { ReplyStats } from './types';

/** Runs from its making on. */
export class ReplyClock {
  readonly #start = performance.now();
  #firstMs = 0;
  #lastMs = 0;
  #replyTokens = 0;

  /** The prompt has been submitted: the time of a reply that gets no token. */
  prefilled(): void {
    this.#firstMs = this.#lastMs = performance.now() - this.#start;
  }

  /** A token has arrived. */
  token(): void {
    this.#lastMs = performance.now() - this.#start;
    if (this.#replyTokens++ === 0) this.#firstMs = this.#lastMs;
  }

  stats(promptTokens: number, cachedTokens: number): Omit<ReplyStats, 'dispatchesPerToken'> {
    const replyTokens = this.#replyTokens;
    const prefillMs = this.#firstMs;
    const decodeMs = this.#lastMs - prefillMs;
    return {
      promptTokens,
      cachedTokens,
      replyTokens,
      prefillMs,
      prefillTokensPerSecond: (promptTokens - cachedTokens) / (prefillMs / 1000),
      timeToFirstTokenMs: prefillMs,
      decodeMs,
      decodeTokensPerSecond: replyTokens > 1 ? (replyTokens - 1) / (decodeMs / 1000) : 0,
    };
  }
}
