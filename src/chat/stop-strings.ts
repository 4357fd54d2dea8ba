/** Ends a streamed reply at a stop string, showing nothing that might still turn out to be part of one. */

/** A stop string that can never be used: an empty one. */
export class StopStringError extends Error {
  override readonly name = 'StopStringError';
}

export interface StopStringResult {
  /** Text that may be shown now. */
  readonly emit: string;
  /** A stop string has been found; the text before it is all that the reply says. */
  readonly stopped: boolean;
}

/**
 * Of several stop strings the one that is complete first ends the reply, and of those complete at the same
 * character the longest. How the text is cut into deltas makes no difference. Memory is bounded by the longest
 * stop string and the delta.
 */
export class StopStringMatcher {
  readonly #stops: readonly string[];
  readonly #maxHeldChars: number;
  #held = '';
  #stopped = false;

  /** @throws {StopStringError} on an empty stop string */
  constructor(stops: readonly string[]) {
    const empty = stops.indexOf('');
    if (empty >= 0) throw new StopStringError(`stop[${empty}]: expected a non-empty string, found ''`);
    this.#stops = stops;
    this.#maxHeldChars = Math.max(0, ...stops.map((stop) => stop.length - 1));
  }

  push(delta: string): StopStringResult {
    if (this.#stopped) return { emit: '', stopped: true };
    const text = this.#held + delta;
    const start = this.#findStop(text);
    if (start !== null) {
      this.#held = '';
      this.#stopped = true;
      return { emit: text.slice(0, start), stopped: true };
    }
    const heldChars = this.#possiblePrefixChars(text);
    this.#held = text.slice(text.length - heldChars);
    return { emit: text.slice(0, text.length - heldChars), stopped: false };
  }

  /** The reply ended by itself: what was held back belongs to it. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }

  /** Where the stop string that is complete first begins. */
  #findStop(text: string): number | null {
    let best: { start: number; end: number } | null = null;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      if (best === null || end < best.end || (end === best.end && start < best.start)) best = { start, end };
    }
    return best?.start ?? null;
  }

  /** Length of the longest end of `text` that begins some stop string. */
  #possiblePrefixChars(text: string): number {
    for (let chars = Math.min(this.#maxHeldChars, text.length); chars > 0; chars--) {
      const end = text.slice(text.length - chars);
      if (this.#stops.some((stop) => stop.length > chars && stop.startsWith(end))) return chars;
    }
    return 0;
  }
}
