/** The prompt's way through the model, in chunks. */
import type { PassRunner } from './pass-runner';
import { prefillLayers } from './passes';
import type { Reply } from './reply';

/** Tokens of the first prefill pass; while passes take less than this time, the next ones are twice as long. */
const firstPassTokens = 256;
const shortPassMs = 150;
/** Prefill passes queued at most, so that a cancel takes effect after one of them. */
const prefillInFlight = 2;

export class Prefill {
  /** Long passes fill a large GPU; on a slow one they would hold up a cancel, and the system's display. */
  #passTokens = firstPassTokens;

  constructor(readonly runner: PassRunner) {}

  /** Feeds the prompt from position `from` on; the last pass also draws the first token. False when cancelled. */
  async run({ promptIds, options, passes, draw, cached }: Reply, from: number): Promise<boolean> {
    const { runner } = this;
    const { queue } = runner.device;
    const submitted: Promise<void>[] = [];
    let doneAt = performance.now();
    for (let position = from; position < promptIds.length; ) {
      if (options.signal?.aborted) return false;
      const passTokens = Math.min(this.#passTokens, runner.scratch.chunkTokens);
      const ids = promptIds.slice(position, position + passTokens);
      const last = position + ids.length === promptIds.length;
      runner.feed(ids, position);
      const layers = prefillLayers(passes, ids.length);
      position += ids.length;
      runner.submit([...layers, ...(last ? draw : [])], ids.length, position, last ? 0 : null);
      cached.push(...ids);
      const done = queue.onSubmittedWorkDone().then(() => {
        const now = performance.now();
        if (ids.length === this.#passTokens && now - doneAt < shortPassMs) this.#passTokens *= 2;
        doneAt = now;
      });
      submitted.push(done);
      if (submitted.length >= prefillInFlight) await submitted.shift();
    }
    return true;
  }
}
