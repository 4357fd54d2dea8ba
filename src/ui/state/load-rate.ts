/** How fast a download goes, from its progress reports. */

/** Reports older than this no longer count: the rate follows a network that changes. */
const windowMs = 8000;
/** Too little time for an honest rate. */
const leastMs = 500;

export class LoadRate {
  #points: { readonly atMs: number; readonly bytes: number }[] = [];

  /** Bytes a second over the last seconds; null before there is anything to say. */
  add(atMs: number, bytes: number): number | null {
    if (bytes < (this.#points.at(-1)?.bytes ?? 0)) this.#points = []; // a file was begun again
    this.#points.push({ atMs, bytes });
    while (this.#points.length > 2 && atMs - this.#points[0]!.atMs > windowMs) this.#points.shift();
    const first = this.#points[0]!;
    const elapsedMs = atMs - first.atMs;
    return elapsedMs < leastMs || bytes === first.bytes ? null : (bytes - first.bytes) / (elapsedMs / 1000);
  }
}
