/** Copies of a few bytes of the GPU's memory on their way to the CPU: one per submitted pass, in order, without a stall. */

export class ReadbackQueue {
  readonly #free: GPUBuffer[] = [];
  readonly #all: GPUBuffer[] = [];
  readonly #pending: { readonly buffer: GPUBuffer; readonly mapped: Promise<undefined> }[] = [];

  constructor(
    readonly device: GPUDevice,
    readonly label: string,
    /** Size of one copy, a multiple of 4. */
    readonly bytes: number,
  ) {}

  /** Records a copy of `source` from `offset` on; call {@link submitted} after the submit. */
  encode(encoder: GPUCommandEncoder, source: GPUBuffer, offset = 0): GPUBuffer {
    const buffer = this.#free.pop() ?? this.#create();
    encoder.copyBufferToBuffer(source, offset, buffer, 0, this.bytes);
    return buffer;
  }

  submitted(buffer: GPUBuffer): void {
    const mapped = buffer.mapAsync(0x1); // READ
    mapped.catch(() => undefined); // awaited in `next`; never an unhandled rejection
    this.#pending.push({ buffer, mapped });
  }

  /** The oldest copy in flight, through `read`, which must keep nothing of it. */
  async next<T>(read: (data: ArrayBuffer) => T): Promise<T> {
    const { buffer, mapped } = this.#pending.shift()!;
    await mapped;
    const value = read(buffer.getMappedRange());
    buffer.unmap();
    this.#free.push(buffer);
    return value;
  }

  /** Waits for everything in flight and forgets it. */
  async drain(): Promise<void> {
    while (this.#pending.length > 0) await this.next(() => undefined);
  }

  destroy(): void {
    for (const buffer of this.#all.splice(0)) buffer.destroy();
    this.#free.length = 0;
    this.#pending.length = 0;
  }

  #create(): GPUBuffer {
    const { label, bytes: size } = this;
    const buffer = this.device.createBuffer({ label, size, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    this.#all.push(buffer);
    return buffer;
  }
}
