/** Fills a model's GPU buffers from stored tensors, in any order, one piece at a time. */
import { type ModelLayout, type StoredTensor, type TensorSpec, tensorSpecs } from '../format/tensors';
import { type GpuMemory, GpuMemoryError } from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import { assembleWeights } from './assemble-weights';
import { LayerTensors } from './layer-tensors';
import { isGather, WeightBuffers } from './weight-buffers';
import { type ModelWeights, WeightsError } from './weights';

export class WeightsLoader {
  readonly #device: GPUDevice;
  readonly #buffers: WeightBuffers;
  readonly #checked: LayerTensors | null;
  /** By tensor; gathers apart. */
  readonly #rowsWritten = new Map<string, number>();
  /** Gather indices and offsets, packed together once both are there: small, [K'] each. */
  readonly #gathers = new Map<string, Uint8Array<ArrayBuffer>>();
  /** An out-of-memory error scope is open on the device. */
  #scopeOpen = true;

  private constructor(device: GPUDevice, buffers: WeightBuffers, checked: LayerTensors | null) {
    this.#device = device;
    this.#buffers = buffers;
    this.#checked = checked;
  }

  /**
   * Allocates all buffers of the model.
   * @param checkLayer a layer whose tensors are kept for the run-time check
   * @param isPacked puts the layers' tensors into few large buffers, for the whole-token kernel
   * @throws GpuMemoryError when one row alone is over the device's limits; NoSuchLayerError
   */
  static create(
    gpu: Gpu,
    layout: ModelLayout,
    checkLayer: number | null = null,
    isPacked = false,
  ): WeightsLoader {
    const checked = checkLayer === null ? null : new LayerTensors(layout, checkLayer);
    gpu.device.pushErrorScope('out-of-memory');
    const buffers = new WeightBuffers(gpu, layout);
    const loader = new WeightsLoader(gpu.device, buffers, checked);
    try {
      buffers.allocate(isPacked);
    } catch (error) {
      loader.destroy();
      throw error;
    }
    return loader;
  }

  /** Uploads one stored tensor. @throws WeightsError naming the tensor, what was expected and what came */
  write(stored: StoredTensor, bytes: Uint8Array<ArrayBuffer>): void {
    const { tensor, rowStart, rows } = stored;
    if (bytes.byteLength !== stored.bytes) {
      throw new WeightsError(`${stored.name}: expected ${stored.bytes} bytes, got ${bytes.byteLength}`);
    }
    this.#checked?.add(stored, bytes);
    if (isGather(tensor.name)) {
      this.#gathers.set(tensor.name, bytes.slice());
      return;
    }
    const place = this.#buffers.places.get(tensor.name);
    if (!place) throw new WeightsError(`${stored.name}: this model has no such tensor`);
    this.#buffers.writeRows(place, rowStart, rows, bytes);
    this.#rowsWritten.set(tensor.name, this.#written(tensor) + rows);
  }

  /** Lets `fill` write every buffer on the GPU instead of uploading; gathers become the identity. */
  async fill(fill: (spec: TensorSpec, buffer: GpuMemory) => Promise<void>): Promise<void> {
    const { places, layout } = this.#buffers;
    for (const { spec, blocks } of places.values()) {
      for (const { weight } of blocks) await fill(spec, weight);
      this.#rowsWritten.set(spec.name, spec.shape[0]!);
    }
    for (const { name, shape } of tensorSpecs(layout)) {
      if (!isGather(name)) continue;
      const isOffset = name.endsWith('.offset');
      const D = layout.config.hiddenSize;
      const words = Uint32Array.from({ length: shape[0]! }, (_, k) => (isOffset ? 0 : k % D));
      this.#gathers.set(name, new Uint8Array(words.buffer));
    }
  }

  /** Waits until the buffers exist. @throws GpuMemoryError when the GPU has no room for them; they are freed then */
  async allocated(): Promise<void> {
    const error = await this.#closeScope();
    if (!error) return;
    const bytes = this.#buffers.arena.totalBytes;
    this.destroy();
    throw new GpuMemoryError('model weights', bytes, error.message);
  }

  /**
   * Completes the model. @throws WeightsError when a tensor is missing or came twice; GpuMemoryError when the GPU ran out
   * of memory. After either the buffers are freed.
   */
  async finish(): Promise<ModelWeights> {
    try {
      for (const { spec } of this.#buffers.places.values()) {
        const rows = this.#written(spec);
        if (rows === spec.shape[0]!) continue;
        throw new WeightsError(`${spec.name}: expected ${spec.shape[0]} rows, got ${rows}`);
      }
      const weights = assembleWeights(this.#buffers, this.#gathers, this.#checked);
      const error = await this.#closeScope();
      if (error) throw new GpuMemoryError('model weights', this.#buffers.arena.totalBytes, error.message);
      return weights;
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  /** Gives up: frees every buffer. */
  destroy(): void {
    this.#closeScope().catch(() => undefined); // a lost device reports itself elsewhere
    this.#buffers.arena.destroy();
  }

  async #closeScope(): Promise<GPUError | null> {
    if (!this.#scopeOpen) return null;
    this.#scopeOpen = false;
    return this.#device.popErrorScope();
  }

  #written({ name }: TensorSpec): number {
    return this.#rowsWritten.get(name) ?? 0;
  }
}
