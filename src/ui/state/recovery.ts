/** Coming back by itself after a GPU or worker that failed. */

/** What a new device or worker cures. */
const curable = new Set(['DeviceLostError', 'GpuOperationError', 'WorkerDiedError']);
/** A model that fails again this soon after coming back would only fail on. */
const againMs = 60_000;

/** Decides whether to load the model again after a failure: once, until it has run for a minute. */
export class Recovery {
  #lastMs = Number.NEGATIVE_INFINITY;

  /** @param nowMs milliseconds on any clock that only goes forward */
  shouldReload(error: unknown, nowMs: number): boolean {
    if (!(error instanceof Error) || !curable.has(error.name)) return false;
    const again = nowMs - this.#lastMs < againMs;
    this.#lastMs = nowMs;
    return !again;
  }
}

/** A context that may fit a GPU too small for the one asked for; null where the error says nothing of it. */
export function suggestedContext(error: unknown): number | null {
  const details = (error as { details?: { suggestedContextLength?: unknown } } | null)?.details;
  const length = details?.suggestedContextLength;
  return typeof length === 'number' ? length : null;
}
