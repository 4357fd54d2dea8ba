/** Work of the offline method on one GPU: metered buffers, dispatches recorded one after the other, results read back. */
import { GpuMemoryError, storageUsage } from '../gpu/arena';
import { bytesText } from '../gpu/bytes-text';
import type { Gpu } from '../gpu/gpu';
import { PipelineCache, type PipelineSpec } from '../gpu/pipelines';
import type { Grid } from '../kernels/op';

/** 32-bit fields of a uniform struct in declaration order; numbers marked `f32` are stored as floats. */
export type Fields = Readonly<Record<string, number | { readonly f32: number }>>;

export interface Dispatch extends PipelineSpec {
  /** One struct a binding, from binding 0 on. */
  readonly uniforms: readonly Fields[];
  /** Storage buffers, in the bindings behind the uniforms. */
  readonly buffers: readonly GPUBuffer[];
  readonly grid: Grid;
}

/** Uniform slots: WebGPU's alignment, and how many a submit can use. */
const slotBytes = 256;
const slots = 2048;
/** Bytes of one read-back at a time. */
const stagingBytes = 64 * 2 ** 20;

/** A submit failed on the GPU: out of memory, an invalid call, or a lost device. */
export class GpuWorkError extends Error {
  override readonly name = 'GpuWorkError';
}

export class GpuWork {
  readonly pipelines: PipelineCache;
  readonly #uniforms: GPUBuffer;
  readonly #fields = new DataView(new ArrayBuffer(slots * slotBytes));
  readonly #scratch = new Map<string, GPUBuffer>();
  #used = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #bytes = 0;
  #peakBytes = 0;
  #error: string | null = null;

  constructor(readonly gpu: Gpu) {
    this.pipelines = PipelineCache.of(gpu);
    const usage = 0x40 | 0x8; // UNIFORM | COPY_DST
    this.#uniforms = gpu.device.createBuffer({ label: 'uniforms', size: slots * slotBytes, usage });
    gpu.device.addEventListener('uncapturederror', (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      const isMemory = error.constructor.name === 'GPUOutOfMemoryError';
      this.#error ??= isMemory ? `${error.message}: less stays on the GPU with --gpu-memory` : error.message;
    });
    gpu.device.lost.then(({ message }) => {
      this.#error ??= `the GPU device was lost: ${message}`;
    });
  }

  /** Bytes of all buffers now, and the most there ever were. */
  get bytes(): number {
    return this.#bytes;
  }

  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** A zeroed storage buffer of `floats` 32-bit elements. @throws GpuMemoryError over the device's limits */
  create(label: string, floats: number): GPUBuffer {
    const size = Math.max(16, Math.ceil(floats / 4) * 16);
    const { maxBufferSize, maxStorageBufferBindingSize } = this.gpu.device.limits;
    const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    if (size > limit) throw new GpuMemoryError(label, size, `this GPU binds at most ${bytesText(limit)}`);
    const buffer = this.gpu.device.createBuffer({ label, size, usage: storageUsage });
    this.#bytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes);
    return buffer;
  }

  /** Submits what was recorded, and frees the buffers once that is done. */
  free(...buffers: readonly GPUBuffer[]): void {
    if (buffers.length === 0) return;
    this.submit();
    for (const buffer of buffers) {
      this.#bytes -= buffer.size;
      buffer.destroy();
    }
  }

  /** A buffer that is used again under its name; its contents are what the last user left. */
  scratch(name: string, floats: number): GPUBuffer {
    const found = this.#scratch.get(name);
    if (found && found.size >= 4 * floats) return found;
    if (found) this.free(found);
    const buffer = this.create(name, floats);
    this.#scratch.set(name, buffer);
    return buffer;
  }

  /** Frees all scratch buffers. */
  freeScratch(): void {
    this.free(...this.#scratch.values());
    this.#scratch.clear();
  }

  /** A buffer holding `data`. */
  upload(label: string, data: ArrayBufferView): GPUBuffer {
    const buffer = this.create(label, data.byteLength / 4);
    this.write(buffer, data);
    return buffer;
  }

  /** Writes behind everything recorded so far. @param offset in bytes */
  write(buffer: GPUBuffer, data: ArrayBufferView, offset = 0): void {
    this.submit();
    const source = data.buffer as ArrayBuffer;
    this.gpu.device.queue.writeBuffer(buffer, offset, source, data.byteOffset, data.byteLength);
  }

  /** Records one dispatch. @throws ShaderError */
  async run(dispatch: Dispatch): Promise<void> {
    const { uniforms, buffers, grid } = dispatch;
    if (grid.some((side) => side === 0)) return;
    const pipeline = await this.pipelines.get(dispatch);
    if (this.#used + uniforms.length > slots) this.submit();
    const resources: GPUBindingResource[] = [
      ...uniforms.map((fields) => this.#slot(fields)),
      ...buffers.map((buffer) => ({ buffer })),
    ];
    const entries = resources.map((resource, binding) => ({ binding, resource }));
    const layout = pipeline.getBindGroupLayout(0);
    const bindGroup = this.gpu.device.createBindGroup({ label: dispatch.label, layout, entries });
    this.#encoder ??= this.gpu.device.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, bindGroup);
    this.#pass.dispatchWorkgroups(...grid);
  }

  /** Records a copy; offsets and size in floats. */
  copy(source: GPUBuffer, from: number, target: GPUBuffer, to: number, floats: number): void {
    const encoder = this.#outsidePass();
    encoder.copyBufferToBuffer(source, 4 * from, target, 4 * to, 4 * floats);
  }

  clear(buffer: GPUBuffer): void {
    this.#outsidePass().clearBuffer(buffer);
  }

  submit(): void {
    if (!this.#encoder) return;
    this.#endPass();
    const { queue } = this.gpu.device;
    if (this.#used > 0) queue.writeBuffer(this.#uniforms, 0, this.#fields.buffer, 0, this.#used * slotBytes);
    queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#used = 0;
  }

  /** Waits until the GPU has done all that was recorded. @throws GpuWorkError */
  async settle(): Promise<void> {
    this.submit();
    await this.gpu.device.queue.onSubmittedWorkDone();
    this.#check();
  }

  /** Words [from, from + count) of a buffer. @throws GpuWorkError */
  async read(buffer: GPUBuffer, count: number, from = 0): Promise<Uint32Array<ArrayBuffer>> {
    const out = new Uint32Array(count);
    const words = Math.min(count, stagingBytes / 4);
    const staging = this.gpu.device.createBuffer({ size: Math.max(4, 4 * words), usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    try {
      for (let at = 0; at < count; at += words) {
        const part = Math.min(words, count - at);
        this.copy(buffer, from + at, staging, 0, part);
        this.submit();
        await staging.mapAsync(0x1, 0, 4 * part);
        out.set(new Uint32Array(staging.getMappedRange(0, 4 * part)), at);
        staging.unmap();
      }
    } catch (cause) {
      this.#check();
      throw new GpuWorkError(`reading ${buffer.label}: ${(cause as Error).message}`, { cause });
    } finally {
      staging.destroy();
    }
    this.#check();
    return out;
  }

  async readFloats(buffer: GPUBuffer, count: number, from = 0): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array((await this.read(buffer, count, from)).buffer);
  }

  dispose(): void {
    this.freeScratch();
    this.#uniforms.destroy();
  }

  #check(): void {
    if (this.#error !== null) throw new GpuWorkError(this.#error);
  }

  #slot(fields: Fields): GPUBindingResource {
    const offset = this.#used++ * slotBytes;
    Object.values(fields).forEach((value, i) => {
      if (typeof value === 'number') this.#fields.setUint32(offset + 4 * i, value, true);
      else this.#fields.setFloat32(offset + 4 * i, value.f32, true);
    });
    return { buffer: this.#uniforms, offset, size: slotBytes };
  }

  #outsidePass(): GPUCommandEncoder {
    this.#endPass();
    this.#encoder ??= this.gpu.device.createCommandEncoder();
    return this.#encoder;
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }
}
