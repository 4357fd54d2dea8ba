/** GPU buffers of one owner: accounted by category, checked against the device's limits, freed together. */
import { bytesText } from './bytes-text';

/** What a buffer is for; `plan`, the benchmarks and the page report bytes by these. */
export type BufferCategory = 'weights' | 'embeddings' | 'kv-cache' | 'scratch' | 'uniforms' | 'staging';

/** A buffer larger than the device allows, or more memory than the GPU has. Carries the figures. */
export class GpuMemoryError extends Error {
  override readonly name = 'GpuMemoryError';
  constructor(
    readonly label: string,
    readonly wantedBytes: number,
    readonly reason: string,
  ) {
    super(`GPU buffer ${label}: ${bytesText(wantedBytes)}: ${reason}`);
  }
}

export interface BufferOptions {
  readonly category: BufferCategory;
  readonly usage?: number;
}

/** Usage of a buffer that kernels read and write and the CPU fills and reads back. */
export const storageUsage = 0x80 | 0x8 | 0x4; // STORAGE | COPY_DST | COPY_SRC
const uniformUsage = 0x40 | 0x8; // UNIFORM | COPY_DST

/** Part of a buffer, with its size in bytes. Kernels bind it like a buffer of its own. */
export interface BufferSlice {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/** What a kernel can be given: a buffer, or a part of one. */
export type GpuMemory = GPUBuffer | BufferSlice;

/** The buffer that memory lies in, and where in it. */
export function placeOf(memory: GpuMemory): BufferSlice {
  return 'buffer' in memory ? memory : { buffer: memory, offset: 0, size: memory.size };
}

/** Slices start at multiples of this many bytes: the largest `minStorageBufferOffsetAlignment` that WebGPU allows. */
export const sliceAlignment = 256;

export class BufferArena {
  readonly #buffers: GPUBuffer[] = [];
  readonly #bytes = new Map<BufferCategory, number>();
  readonly #uniforms = new Map<string, GPUBuffer>();

  constructor(readonly device: GPUDevice) {}

  /** A zeroed buffer of at least `bytes` bytes, rounded up to 16. @throws GpuMemoryError over the device's limits. */
  create(label: string, bytes: number, options: BufferOptions): GPUBuffer {
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    if (size > limit) throw new GpuMemoryError(label, size, `this GPU binds at most ${bytesText(limit)}`);
    const buffer = this.device.createBuffer({ label, size, usage: options.usage ?? storageUsage });
    this.#buffers.push(buffer);
    this.#bytes.set(options.category, (this.#bytes.get(options.category) ?? 0) + size);
    return buffer;
  }

  /** Slices of these sizes, in order, in as few buffers as the device's limits allow. @throws GpuMemoryError */
  createSlices(label: string, sizes: readonly number[], options: BufferOptions): BufferSlice[] {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    const buffers: { readonly offsets: number[]; bytes: number }[] = [];
    for (const size of sizes) {
      const last = buffers.at(-1);
      const offset = Math.ceil((last?.bytes ?? 0) / sliceAlignment) * sliceAlignment;
      if (last && offset + size + 16 <= limit) {
        last.offsets.push(offset);
        last.bytes = offset + size;
      } else {
        buffers.push({ offsets: [0], bytes: size });
      }
    }
    let next = 0;
    return buffers.flatMap(({ offsets, bytes }, i) => {
      const buffer = this.create(`${label}[${i}]`, bytes, options);
      return offsets.map((offset) => ({ buffer, offset, size: sizes[next++]! }));
    });
  }

  /** A storage buffer holding `data`. */
  upload(label: string, data: ArrayBufferView<ArrayBuffer>, options: BufferOptions): GPUBuffer {
    const buffer = this.create(label, data.byteLength, options);
    this.device.queue.writeBuffer(buffer, 0, data.buffer, data.byteOffset, data.byteLength);
    return buffer;
  }

  /**
   * A uniform buffer of 32-bit fields in declaration order; numbers marked `f32` are stored as floats. Nobody writes to it:
   * equal fields get the same buffer, so that what a layer's kernel looks at first is still cached from the layer before.
   */
  uniform(label: string, fields: Record<string, number | { readonly f32: number }>): GPUBuffer {
    const values = Object.values(fields);
    const view = new DataView(new ArrayBuffer(Math.ceil(values.length / 4) * 16));
    values.forEach((value, i) => {
      if (typeof value === 'number') view.setUint32(4 * i, value, true);
      else view.setFloat32(4 * i, value.f32, true);
    });
    const key = new Uint32Array(view.buffer).join();
    const shared = this.#uniforms.get(key);
    if (shared) return shared;
    const buffer = this.upload(label, view, { category: 'uniforms', usage: uniformUsage });
    this.#uniforms.set(key, buffer);
    return buffer;
  }

  /** Bytes allocated by category. */
  get bytesByCategory(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#bytes);
  }

  get totalBytes(): number {
    return [...this.#bytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Frees every buffer. The arena can be used again afterwards. */
  destroy(): void {
    for (const buffer of this.#buffers.splice(0)) buffer.destroy();
    this.#bytes.clear();
    this.#uniforms.clear();
  }
}
