/** Seconds by stage, for progress reports and benchmarks. Stages within a stage count apart and are taken off it. */
export class Stopwatch {
  readonly #seconds = new Map<string, number>();
  readonly #open: { readonly stage: string; sinceMs: number }[] = [];

  /** Runs `work` on the clock of `stage`; the stage around it stands still meanwhile. */
  async time<T>(stage: string, work: () => Promise<T>): Promise<T> {
    this.#stop();
    this.#open.push({ stage, sinceMs: performance.now() });
    try {
      return await work();
    } finally {
      this.#stop();
      this.#open.pop();
      const outer = this.#open.at(-1);
      if (outer) outer.sinceMs = performance.now();
    }
  }

  /** Stages in the order in which they first ended. */
  get seconds(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#seconds);
  }

  /** Books the innermost stage's time and starts its clock anew. */
  #stop(): void {
    const inner = this.#open.at(-1);
    if (!inner) return;
    const now = performance.now();
    this.#seconds.set(inner.stage, (this.#seconds.get(inner.stage) ?? 0) + (now - inner.sinceMs) / 1000);
    inner.sinceMs = now;
  }
}
