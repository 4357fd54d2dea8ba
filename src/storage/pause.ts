/** A gate in front of the network that the user closes and opens: downloads keep what they have and go on later. */

export class PauseGate {
  #closing = new AbortController();
  #waiting: (() => void)[] = [];
  #onChange: () => void = () => undefined;

  get paused(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Aborts when the gate closes. A new one takes its place when it opens. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Called after every change. */
  watch(onChange: () => void): void {
    this.#onChange = onChange;
  }

  pause(): void {
    if (this.paused) return;
    this.#closing.abort(new DOMException('paused', 'AbortError'));
    this.#onChange();
  }

  resume(): void {
    if (!this.paused) return;
    this.#closing = new AbortController();
    for (const wake of this.#waiting.splice(0)) wake();
    this.#onChange();
  }

  /** Resolves when the gate is open. @throws the signal's reason when aborted */
  async open(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (!this.paused) return;
    await new Promise<void>((resolve, reject) => {
      const onAbort = () => reject(signal?.reason);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
    });
  }
}
