/** Tokens in flight: passes are submitted ahead, their token ids come back asynchronously and in order. */
import { ReadbackQueue } from './readback';

/** Work to keep queued ahead of the GPU, so that it never waits for the CPU. */
const queuedMs = 20;

/** Reads one u32 per submitted pass out of `history`, without stalling the queue. */
export class TokenReader {
  readonly #queue: ReadbackQueue;

  constructor(
    device: GPUDevice,
    readonly history: GPUBuffer,
    readonly historyCapacity: number,
  ) {
    this.#queue = new ReadbackQueue(device, 'token', 4);
  }

  /** Records the copy of token number `generated`; call {@link submitted} after the submit. */
  encode(encoder: GPUCommandEncoder, generated: number): GPUBuffer {
    return this.#queue.encode(encoder, this.history, 4 * (generated % this.historyCapacity));
  }

  submitted(buffer: GPUBuffer): void {
    this.#queue.submitted(buffer);
  }

  /** The oldest token in flight. */
  next(): Promise<number> {
    return this.#queue.next((data) => new Uint32Array(data)[0]!);
  }

  /** Waits for everything in flight and forgets it. */
  drain(): Promise<void> {
    return this.#queue.drain();
  }

  destroy(): void {
    this.#queue.destroy();
  }
}

/** How many passes to keep in flight: about {@link queuedMs} of work, between 2 and 32. */
export function flightDepth(tokenMs: number): number {
  return Math.max(2, Math.min(32, Math.ceil(queuedMs / Math.max(tokenMs, 0.01)) + 1));
}
