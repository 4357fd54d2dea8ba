/** Fills a model's GPU buffers from stored tensors, in any order, one piece at a time. */
import {
  type ModelLayout,
  type StoredTensor,
  type TensorSpec,
  tensorBytes,
  tensorSpecs,
} from '../format/tensors';
import {
  BufferArena,
  type BufferCategory,
  type BufferSlice,
  type GpuMemory,
  GpuMemoryError,
  placeOf,
} from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import { denseStride, elementBytes, type MatrixDtype, padRows } from '../kernels/dense-layout';
import { packGather } from '../kernels/packing';
import { LayerTensors } from './layer-tensors';
import type {
  DenseMatrix,
  GridMatrix,
  LayerWeights,
  Matrix,
  ModelWeights,
  NormWeights,
  RowBlock,
} from './weights';

/** Every WebGPU device binds this much; larger matrices are split into row blocks unless the device offers more. */
const defaultBindingBytes = 128 * 2 ** 20;

/** A tensor that the model has no place for, came twice, has the wrong size, or never came. */
export class WeightsError extends Error {
  override readonly name = 'WeightsError';
}

interface Target {
  readonly spec: TensorSpec;
  readonly blocks: readonly RowBlock[];
  /** Bytes of one row in the GPU buffers, padding included. */
  readonly rowBytes: number;
  rowsWritten: number;
}

export class WeightsLoader {
  readonly #gpu: Gpu;
  readonly #layout: ModelLayout;
  readonly #arena: BufferArena;
  readonly #targets = new Map<string, Target>();
  /** Gather indices and offsets, packed together once both are there: small, [K'] each. */
  readonly #gathers = new Map<string, Uint8Array<ArrayBuffer>>();
  /** Parts of few large buffers for the layers' tensors, where the model is packed. */
  readonly #slices = new Map<string, BufferSlice>();
  /** An out-of-memory error scope is open on the device. */
  #scopeOpen = false;
  readonly #checked: LayerTensors | null;

  private constructor(gpu: Gpu, layout: ModelLayout, checkLayer: number | null) {
    this.#checked = checkLayer === null ? null : new LayerTensors(layout, checkLayer);
    this.#gpu = gpu;
    this.#layout = layout;
    this.#arena = new BufferArena(gpu.device);
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
    const loader = new WeightsLoader(gpu, layout, checkLayer);
    gpu.device.pushErrorScope('out-of-memory');
    loader.#scopeOpen = true;
    if (isPacked) loader.#pack();
    for (const spec of tensorSpecs(layout)) {
      if (isGather(spec.name)) continue;
      loader.#targets.set(spec.name, loader.#allocate(spec));
    }
    return loader;
  }

  /** Weights in one series of buffers, vectors in another; not where a tensor needs several bindings. */
  #pack(): void {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.#gpu.device.limits;
    const specs = tensorSpecs(this.#layout).filter(
      ({ name }) => name.startsWith('layers.') && !name.endsWith('_norm.offset'),
    );
    const fits = (spec: TensorSpec) =>
      tensorBytes(spec) < Math.min(maxStorageBufferBindingSize, maxBufferSize);
    if (!specs.every(fits) || specs.some(isDense)) return;
    const isMatrix = ({ shape }: TensorSpec) => shape.length === 2;
    for (const [label, part] of [
      ['layers.weights', specs.filter(isMatrix)],
      ['layers.vectors', specs.filter((spec) => !isMatrix(spec))],
    ] as const) {
      const slices = this.#arena.createSlices(label, part.map(tensorBytes), { category: 'weights' });
      part.forEach(({ name }, i) => {
        this.#slices.set(name, slices[i]!);
      });
    }
  }

  #allocate(spec: TensorSpec): Target {
    const rows = spec.shape[0]!;
    const dense = isDense(spec);
    const stride = dense ? denseStride(spec.shape[1]!, spec.dtype as MatrixDtype) : null;
    const rowBytes = stride
      ? stride * elementBytes[spec.dtype as MatrixDtype]
      : tensorBytes({ dtype: spec.dtype, shape: spec.shape.slice(1) });
    const slice = this.#slices.get(spec.name);
    if (slice) {
      return { spec, blocks: [{ rowStart: 0, rows, weight: slice }], rowBytes, rowsWritten: 0 };
    }
    const { maxStorageBufferBindingSize, maxBufferSize } = this.#gpu.device.limits;
    const bindable = Math.max(defaultBindingBytes, Math.min(maxStorageBufferBindingSize, maxBufferSize));
    const rowsPerBlock = Math.max(1, Math.floor(bindable / rowBytes));
    const category: BufferCategory = /^(embed|head)\./.test(spec.name) ? 'embeddings' : 'weights';
    const blocks: RowBlock[] = [];
    for (let rowStart = 0; rowStart < rows; rowStart += rowsPerBlock) {
      const count = Math.min(rowsPerBlock, rows - rowStart);
      const weight = this.#arena.create(`${spec.name}[${rowStart}]`, count * rowBytes, { category });
      blocks.push({ rowStart, rows: count, weight });
    }
    return { spec, blocks, rowBytes, rowsWritten: 0 };
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
    const target = this.#targets.get(tensor.name);
    if (!target) throw new WeightsError(`${stored.name}: this model has no such tensor`);
    const padded = isDense(tensor)
      ? padRows(bytes, rows, tensor.shape[1]!, tensor.dtype as MatrixDtype)
      : bytes;
    for (const block of target.blocks) {
      const from = Math.max(rowStart, block.rowStart);
      const to = Math.min(rowStart + rows, block.rowStart + block.rows);
      if (from >= to) continue;
      const source = padded.subarray((from - rowStart) * target.rowBytes, (to - rowStart) * target.rowBytes);
      this.#upload(block.weight, (from - block.rowStart) * target.rowBytes, source);
    }
    target.rowsWritten += rows;
  }

  /** Lets `fill` write every buffer on the GPU instead of uploading; gathers become the identity. */
  async fill(fill: (spec: TensorSpec, buffer: GpuMemory) => Promise<void>): Promise<void> {
    for (const target of this.#targets.values()) {
      for (const { weight } of target.blocks) await fill(target.spec, weight);
      target.rowsWritten = target.spec.shape[0]!;
    }
    for (const spec of tensorSpecs(this.#layout).filter(({ name }) => isGather(name))) {
      const D = this.#layout.config.hiddenSize;
      const isOffset = spec.name.endsWith('.offset');
      const words = Uint32Array.from({ length: spec.shape[0]! }, (_, k) => (isOffset ? 0 : k % D));
      this.#gathers.set(spec.name, new Uint8Array(words.buffer));
    }
  }

  /** In pieces, so that the browser's staging memory stays small. writeBuffer wants multiples of 4 bytes. */
  #upload(memory: GpuMemory, from: number, bytes: Uint8Array<ArrayBuffer>): void {
    const { buffer, offset } = placeOf(memory);
    const piece = 16 * 2 ** 20;
    for (let start = 0; start < bytes.byteLength; start += piece) {
      const part = bytes.subarray(start, start + piece);
      this.#gpu.device.queue.writeBuffer(
        buffer,
        offset + from + start,
        part.buffer,
        part.byteOffset,
        part.byteLength,
      );
    }
  }

  /** Waits until the buffers exist. @throws GpuMemoryError when the GPU has no room for them; they are freed then */
  async allocated(): Promise<void> {
    const error = await this.#closeScope();
    if (!error) return;
    const bytes = this.#arena.totalBytes;
    this.destroy();
    throw new GpuMemoryError('model weights', bytes, error.message);
  }

  /**
   * Completes the model. @throws WeightsError when a tensor is missing or came twice; GpuMemoryError when the GPU ran out
   * of memory. After either the buffers are freed.
   */
  async finish(): Promise<ModelWeights> {
    try {
      for (const { spec, rowsWritten } of this.#targets.values()) {
        if (rowsWritten !== spec.shape[0]!) {
          throw new WeightsError(`${spec.name}: expected ${spec.shape[0]} rows, got ${rowsWritten}`);
        }
      }
      const weights = this.#assemble();
      const error = await this.#closeScope();
      if (error) throw new GpuMemoryError('model weights', this.#arena.totalBytes, error.message);
      return weights;
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  /** Gives up: frees every buffer. */
  destroy(): void {
    this.#closeScope().catch(() => undefined); // a lost device reports itself elsewhere
    this.#arena.destroy();
  }

  async #closeScope(): Promise<GPUError | null> {
    if (!this.#scopeOpen) return null;
    this.#scopeOpen = false;
    return this.#gpu.device.popErrorScope();
  }

  #assemble(): ModelWeights {
    const { config } = this.#layout;
    const embed = this.#dense('embed');
    return {
      layout: this.#layout,
      arena: this.#arena,
      checked: this.#checked,
      embed,
      layers: Array.from({ length: config.numLayers }, (_, layer) => this.#layer(`layers.${layer}.`)),
      finalNorm: this.#whole('final_norm.weight'),
      head: config.tieWordEmbeddings ? embed : this.#dense('head'),
    };
  }

  #layer(prefix: string): LayerWeights {
    return {
      attnNorm: this.#norm(`${prefix}attn_norm`),
      qkv: this.#matrix(`${prefix}qkv`),
      o: this.#matrix(`${prefix}o`),
      mlpNorm: this.#norm(`${prefix}mlp_norm`),
      gateUp: this.#matrix(`${prefix}gate_up`),
      down: this.#matrix(`${prefix}down`),
    };
  }

  #norm(name: string): NormWeights {
    if (this.#targets.has(`${name}.weight`)) return { kind: 'plain', weight: this.#whole(`${name}.weight`) };
    const mult = this.#targets.get(`${name}.mult`)!;
    const gather = this.#gathers.get(`${name}.gather`);
    if (!gather) throw new WeightsError(`${name}.gather: missing`);
    const offset = this.#gathers.get(`${name}.offset`);
    const indices = new Uint32Array(gather.buffer);
    const offsets = offset ? new Int32Array(offset.buffer) : null;
    const packed = packGather(indices, offsets, this.#layout.config.hiddenSize);
    return {
      kind: 'merged',
      inputs: mult.spec.shape[0]!,
      gather: this.#gather(`${name}.gather`, packed),
      mult: this.#whole(`${name}.mult`),
    };
  }

  #gather(name: string, packed: Uint32Array<ArrayBuffer>): GpuMemory {
    const slice = this.#slices.get(name);
    if (!slice) return this.#arena.upload(name, packed, { category: 'weights' });
    this.#upload(slice, 0, new Uint8Array(packed.buffer));
    return slice;
  }

  #matrix(name: string): Matrix {
    const weight = this.#targets.get(`${name}.weight`)!;
    if (weight.spec.dtype !== 'U32') return this.#dense(name);
    const [outputs, words] = weight.spec.shape as [number, number];
    const { weightBits: bits, weightGrid: groups } = this.#layout.quant!;
    const inputs = (words * 32) / bits;
    if (groups) return this.#onGrid(name, { bits, groups, inputs, outputs, blocks: weight.blocks });
    const scale = this.#whole(`${name}.scale`);
    return { kind: 'int4', inputs, outputs, blocks: weight.blocks, scale, bias: this.#bias(name) };
  }

  /** @throws WeightsError when the grid of all rows is more than a binding */
  #onGrid(
    name: string,
    shape: Pick<GridMatrix, 'bits' | 'groups' | 'inputs' | 'outputs' | 'blocks'>,
  ): Matrix {
    const { blocks } = this.#targets.get(`${name}.grid`)!;
    if (blocks.length > 1)
      throw new WeightsError(`${name}.grid: expected one buffer, found ${blocks.length}`);
    return { kind: 'grid', ...shape, grid: blocks[0]!.weight, bias: this.#bias(name) };
  }

  #dense(name: string): DenseMatrix {
    const { spec, blocks } = this.#targets.get(`${name}.weight`)!;
    const [outputs, inputs] = spec.shape as [number, number];
    return {
      kind: 'dense',
      dtype: spec.dtype as MatrixDtype,
      inputs,
      outputs,
      blocks,
      scale: spec.dtype === 'I8' ? this.#whole(`${name}.scale`) : null,
      bias: this.#bias(name),
    };
  }

  #bias(name: string): GpuMemory | null {
    return this.#targets.has(`${name}.bias`) ? this.#whole(`${name}.bias`) : null;
  }

  /** A vector's only memory. */
  #whole(name: string): GpuMemory {
    return this.#targets.get(name)!.blocks[0]!.weight;
  }
}

function isGather(name: string): boolean {
  return name.endsWith('_norm.gather') || name.endsWith('_norm.offset');
}

function isDense(spec: TensorSpec): boolean {
  return spec.shape.length === 2 && spec.dtype !== 'U32';
}
