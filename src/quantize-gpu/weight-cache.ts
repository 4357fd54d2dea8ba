/** A layer's float weights on the GPU: uploaded once, found again by the host array that they came from. */
import type { LayerWeights, Linear } from '../quantize/layer';
import type { Matrix } from '../quantize/matrix';
import type { GpuLinear } from './block-steps';
import type { GpuWork } from './gpu-work';

export class WeightCache {
  readonly #buffers = new Map<Float32Array, GPUBuffer>();

  constructor(readonly work: GpuWork) {}

  /** The buffer of `values`; uploads them where they are not there yet. */
  get(values: Float32Array): GPUBuffer {
    let buffer = this.#buffers.get(values);
    if (!buffer) {
      buffer = this.work.upload('weights', values);
      this.#buffers.set(values, buffer);
    }
    return buffer;
  }

  linear({ weight, bias }: Linear): GpuLinear {
    return {
      weight: this.get(weight.data),
      bias: bias && this.get(bias),
      outputs: weight.rows,
      inputs: weight.cols,
    };
  }

  /** Runs `use` with a matrix on the GPU, which is uploaded for that long unless it is held. */
  async with<T>({ data }: Matrix, use: (buffer: GPUBuffer) => Promise<T>): Promise<T> {
    const held = this.#buffers.get(data);
    if (held) return use(held);
    const buffer = this.work.upload('weights', data);
    try {
      return await use(buffer);
    } finally {
      this.work.free(buffer);
    }
  }

  /** Uploads a layer's linears. */
  hold({ qkv, o, gateUp, down }: LayerWeights): void {
    for (const linear of [qkv, o, gateUp, down]) this.linear(linear);
  }

  /** Frees everything. */
  clear(): void {
    this.work.free(...this.#buffers.values());
    this.#buffers.clear();
  }
}
