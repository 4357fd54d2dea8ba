/** Tokens in flight: passes are submitted ahead, their token ids come back asynchronously and in order. */

/** Work to keep queued ahead of the GPU, so that it never waits for the CPU. */
const queuedMs = 20;

/** Reads one u32 per submitted pass out of `history`, without stalling the queue. */
export class TokenReader {
  readonly #free: GPUBuffer[] = [];
  readonly #all: GPUBuffer[] = [];
  readonly #pending: { readonly buffer: GPUBuffer; readonly mapped: Promise<undefined> }[] = [];

  constructor(
    readonly device: GPUDevice,
    readonly history: GPUBuffer,
    readonly historyCapacity: number,
  ) {}

  get inFlight(): number {
    return this.#pending.length;
  }

  /** Records the copy of token number `generated`; call {@link submitted} after the submit. */
  encode(encoder: GPUCommandEncoder, generated: number): GPUBuffer {
    const buffer = this.#free.pop() ?? this.#create();
    encoder.copyBufferToBuffer(this.history, 4 * (generated % this.historyCapacity), buffer, 0, 4);
    return buffer;
  }

  submitted(buffer: GPUBuffer): void {
    const mapped = buffer.mapAsync(0x1); // READ
    mapped.catch(() => undefined); // awaited in `next`; never an unhandled rejection
    this.#pending.push({ buffer, mapped });
  }

  /** The oldest token in flight. */
  async next(): Promise<number> {
    const { buffer, mapped } = this.#pending.shift()!;
    await mapped;
    const id = new Uint32Array(buffer.getMappedRange())[0]!;
    buffer.unmap();
    this.#free.push(buffer);
    return id;
  }

  /** Waits for everything in flight and forgets it. */
  async drain(): Promise<void> {
    while (this.#pending.length > 0) await this.next();
  }

  destroy(): void {
    for (const buffer of this.#all.splice(0)) buffer.destroy();
    this.#free.length = 0;
    this.#pending.length = 0;
  }

  #create(): GPUBuffer {
    const buffer = this.device.createBuffer({ label: 'token', size: 4, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    this.#all.push(buffer);
    return buffer;
  }
}

/** How many passes to keep in flight: about {@link queuedMs} of work, between 2 and 32. */
export function flightDepth(tokenMs: number): number {
  return Math.max(2, Math.min(32, Math.ceil(queuedMs / Math.max(tokenMs, 0.01)) + 1));
}
