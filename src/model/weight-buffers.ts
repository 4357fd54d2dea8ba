/** Where a model's tensors lie on the GPU: one buffer each, several where one is not enough, or slices of a few large ones. */
import { type ModelLayout, type TensorSpec, tensorBytes, tensorSpecs } from '../format/tensors';
import { BufferArena, type BufferCategory, type BufferSlice, type GpuMemory, placeOf } from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import { denseStride, elementBytes, type MatrixDtype, padRows } from '../kernels/dense-layout';
import type { RowBlock } from './weights';

/** Every WebGPU device binds this much; larger matrices are split into row blocks unless the device offers more. */
const defaultBindingBytes = 128 * 2 ** 20;
/** Of one call to the queue. */
const uploadBytes = 16 * 2 ** 20;

export interface TensorPlace {
  readonly spec: TensorSpec;
  readonly blocks: readonly RowBlock[];
  /** Bytes of one row in the GPU buffers, padding included. */
  readonly rowBytes: number;
}

export class WeightBuffers {
  readonly arena: BufferArena;
  /** Of all tensors but gather indices and offsets, which are packed together first: {@link uploadGather}. */
  readonly places = new Map<string, TensorPlace>();
  /** Parts of few large buffers for the layers' tensors, where the model is packed. */
  readonly #slices = new Map<string, BufferSlice>();

  constructor(
    readonly gpu: Gpu,
    readonly layout: ModelLayout,
  ) {
    this.arena = new BufferArena(gpu.device);
  }

  /**
   * Makes all buffers.
   * @param isPacked puts the layers' tensors into few large ones
   * @throws GpuMemoryError when one row alone is over the device's limits
   */
  allocate(isPacked: boolean): void {
    if (isPacked) this.#pack();
    for (const spec of tensorSpecs(this.layout)) {
      if (!isGather(spec.name)) this.places.set(spec.name, this.#allocate(spec));
    }
  }

  /** Uploads rows of a tensor as they are stored, `rowStart` to `rowStart + rows`. */
  writeRows(place: TensorPlace, rowStart: number, rows: number, bytes: Uint8Array<ArrayBuffer>): void {
    const { spec, rowBytes, blocks } = place;
    const padded = isDense(spec) ? padRows(bytes, rows, spec.shape[1]!, spec.dtype as MatrixDtype) : bytes;
    for (const block of blocks) {
      const from = Math.max(rowStart, block.rowStart);
      const to = Math.min(rowStart + rows, block.rowStart + block.rows);
      if (from >= to) continue;
      const source = padded.subarray((from - rowStart) * rowBytes, (to - rowStart) * rowBytes);
      this.#upload(block.weight, (from - block.rowStart) * rowBytes, source);
    }
  }

  /** Indices and offsets of one norm's gather, a word each. */
  uploadGather(name: string, packed: Uint32Array<ArrayBuffer>): GpuMemory {
    const slice = this.#slices.get(name);
    if (!slice) return this.arena.upload(name, packed, { category: 'weights' });
    this.#upload(slice, 0, new Uint8Array(packed.buffer));
    return slice;
  }

  /** In pieces, so that the browser's staging memory stays small. writeBuffer wants multiples of 4 bytes. */
  #upload(memory: GpuMemory, from: number, bytes: Uint8Array<ArrayBuffer>): void {
    const { buffer, offset } = placeOf(memory);
    const { queue } = this.gpu.device;
    for (let start = 0; start < bytes.byteLength; start += uploadBytes) {
      const part = bytes.subarray(start, start + uploadBytes);
      queue.writeBuffer(buffer, offset + from + start, part.buffer, part.byteOffset, part.byteLength);
    }
  }

  /** Weights in one series of buffers, vectors in another; not where a tensor needs several bindings. */
  #pack(): void {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.gpu.device.limits;
    const specs = tensorSpecs(this.layout).filter(
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
      const slices = this.arena.createSlices(label, part.map(tensorBytes), { category: 'weights' });
      part.forEach(({ name }, i) => {
        this.#slices.set(name, slices[i]!);
      });
    }
  }

  #allocate(spec: TensorSpec): TensorPlace {
    const rows = spec.shape[0]!;
    const rowBytes = isDense(spec)
      ? denseStride(spec.shape[1]!, spec.dtype as MatrixDtype) * elementBytes[spec.dtype as MatrixDtype]
      : tensorBytes({ dtype: spec.dtype, shape: spec.shape.slice(1) });
    const slice = this.#slices.get(spec.name);
    const blocks = slice
      ? [{ rowStart: 0, rows, weight: slice }]
      : this.#rowBlocks(spec.name, rows, rowBytes);
    return { spec, blocks, rowBytes };
  }

  #rowBlocks(name: string, rows: number, rowBytes: number): RowBlock[] {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.gpu.device.limits;
    const bindable = Math.max(defaultBindingBytes, Math.min(maxStorageBufferBindingSize, maxBufferSize));
    const rowsPerBlock = Math.max(1, Math.floor(bindable / rowBytes));
    const category: BufferCategory = /^(embed|head)\./.test(name) ? 'embeddings' : 'weights';
    const blocks: RowBlock[] = [];
    for (let rowStart = 0; rowStart < rows; rowStart += rowsPerBlock) {
      const count = Math.min(rowsPerBlock, rows - rowStart);
      const weight = this.arena.create(`${name}[${rowStart}]`, count * rowBytes, { category });
      blocks.push({ rowStart, rows: count, weight });
    }
    return blocks;
  }
}

/** Whether a tensor holds a norm's gather indices, or their offsets. */
export function isGather(name: string): boolean {
  return name.endsWith('_norm.gather') || name.endsWith('_norm.offset');
}

function isDense(spec: TensorSpec): boolean {
  return spec.shape.length === 2 && spec.dtype !== 'U32';
}
