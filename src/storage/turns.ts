/** Tabs take turns: one downloads a model, the others watch it and take over when it is done, fails or closes. */

/** How far a download is, as the tabs tell each other. */
export interface SharedProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface Turns {
  /**
   * Runs `work` when no other tab runs work under `key`; until then `onFollow` hears of the other tab's progress. What `work`
   * reports through `tell` reaches the tabs that wait.
   * @throws what `work` throws, or the signal's reason
   */
  take<T>(
    key: string,
    signal: AbortSignal,
    onFollow: (progress: SharedProgress | null) => void,
    work: (tell: (progress: SharedProgress) => void) => Promise<T>,
  ): Promise<T>;
}

/** Nobody else is there. */
export const noTurns: Turns = {
  take: (_key, _signal, _onFollow, work) => work(() => undefined),
};

/** Turns by the browser's Web Locks: a tab that is closed or crashes gives its lock back. */
export function browserTurns(locks: LockManager | undefined): Turns {
  if (!locks) return noTurns;
  return {
    async take(key, signal, onFollow, work) {
      const name = `mergequant:${key}`;
      const channel = new BroadcastChannel(name);
      const run = () => work((progress) => channel.postMessage(progress));
      try {
        const first = await locks.request(name, { ifAvailable: true }, async (lock) =>
          lock ? { value: await run() } : null,
        );
        if (first) return first.value;
        onFollow(null);
        channel.addEventListener('message', ({ data }) => onFollow(data as SharedProgress));
        const second = await locks.request(name, { signal }, async () => ({ value: await run() }));
        return second.value;
      } finally {
        channel.close();
      }
    },
  };
}
