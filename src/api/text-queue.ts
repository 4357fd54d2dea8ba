/** Pieces of a reply pushed by a callback, taken by a loop. */
import type { TextLogprobs } from '../chat/text-logprobs';

export interface ReplyPiece {
  readonly text: string;
  readonly logprobs: readonly TextLogprobs[];
}

export class TextQueue implements AsyncIterable<ReplyPiece> {
  #text = '';
  #logprobs: TextLogprobs[] = [];
  #ended = false;
  #error: unknown;
  #wake: () => void = () => undefined;

  push(text: string, logprobs: readonly TextLogprobs[] = []): void {
    this.#text += text;
    this.#logprobs.push(...logprobs);
    this.#wake();
  }

  /** Ends the loop after what is left, or with `error` at once. */
  end(error?: unknown): void {
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  /** What came since the last time, in one piece. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ReplyPiece, void, undefined> {
    for (;;) {
      if (this.#error !== undefined) throw this.#error;
      if (this.#text !== '' || this.#logprobs.length > 0) {
        const piece = { text: this.#text, logprobs: this.#logprobs };
        this.#text = '';
        this.#logprobs = [];
        yield piece;
      } else if (this.#ended) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
