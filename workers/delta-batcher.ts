/** Collects streamed text and passes it on a few dozen times a second: a fast model makes hundreds of tokens. */
import type { TextLogprobs } from '../src/chat/text-logprobs';

const intervalMs = 30;

export class DeltaBatcher {
  #text = '';
  #logprobs: TextLogprobs[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sent: Promise<void> = Promise.resolve();

  /** `send` may return a promise that resolves when the other side has the text. */
  constructor(readonly send: (text: string, logprobs?: readonly TextLogprobs[]) => void | Promise<void>) {}

  push(text: string, logprobs: readonly TextLogprobs[] = []): void {
    this.#text += text;
    this.#logprobs.push(...logprobs);
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
    const [text, logprobs] = [this.#text, this.#logprobs];
    this.#text = '';
    this.#logprobs = [];
    if (text === '' && logprobs.length === 0) return;
    const sent = logprobs.length > 0 ? this.send(text, logprobs) : this.send(text);
    this.#sent = this.#sent.then(() => sent);
  }
}
