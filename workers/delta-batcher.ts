/** Collects streamed text and passes it on a few dozen times a second: a fast model makes hundreds of tokens. */

const intervalMs = 30;

export class DeltaBatcher {
  #text = '';
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sent: Promise<void> = Promise.resolve();

  /** `send` may return a promise that resolves when the other side has the text. */
  constructor(readonly send: (text: string) => void | Promise<void>) {}

  push(text: string): void {
    this.#text += text;
    this.#timer ??= setTimeout(() => this.#pass(), intervalMs);
  }

  /** Passes on what is left and resolves when all of it has arrived. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#pass();
    return this.#sent;
  }

  #pass(): void {
    this.#timer = undefined;
    const text = this.#text;
    this.#text = '';
    if (text === '') return;
    const sent = this.send(text);
    this.#sent = this.#sent.then(() => sent);
  }
}
