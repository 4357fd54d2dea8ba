/** Pieces of text pushed by a callback, taken by a loop. */

export class TextQueue implements AsyncIterable<string> {
  #text = '';
  #ended = false;
  #error: unknown;
  #wake: () => void = () => undefined;

  push(text: string): void {
    this.#text += text;
    this.#wake();
  }

  /** Ends the loop after what is left, or with `error` at once. */
  end(error?: unknown): void {
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  /** What came since the last time, in one piece. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    for (;;) {
      if (this.#error !== undefined) throw this.#error;
      if (this.#text !== '') {
        const text = this.#text;
        this.#text = '';
        yield text;
      } else if (this.#ended) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
