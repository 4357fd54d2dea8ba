/** Keeps a copy of one layer's tensors on their way to the GPU, whole and widened, for the float64 reference. */
import { f16BitsToF32 } from '../format/half';
import {
  type ModelLayout,
  type StoredTensor,
  type TensorSpec,
  tensorBytes,
  tensorSpecs,
} from '../format/tensors';
import type { RefTensors } from './forward.ref';

/** A layer that the model does not have. */
export class NoSuchLayerError extends Error {
  override readonly name = 'NoSuchLayerError';
  constructor(layer: number, numLayers: number) {
    super(`no layer ${layer}: expected a whole number from 0 to ${numLayers - 1}`);
  }
}

export class LayerTensors {
  readonly #tensors = new Map<
    string,
    { readonly spec: TensorSpec; readonly bytes: Uint8Array<ArrayBuffer> }
  >();

  /** @throws NoSuchLayerError */
  constructor(
    readonly layout: ModelLayout,
    readonly layer: number,
  ) {
    const { numLayers } = layout.config;
    if (!Number.isInteger(layer) || layer < 0 || layer >= numLayers)
      throw new NoSuchLayerError(layer, numLayers);
    for (const spec of tensorSpecs(layout)) {
      if (!spec.name.startsWith(`layers.${layer}.`)) continue;
      this.#tensors.set(spec.name, { spec, bytes: new Uint8Array(tensorBytes(spec)) });
    }
  }

  /** Copies a stored tensor of the layer; others are none of its business. */
  add({ tensor, rowStart }: StoredTensor, bytes: Uint8Array): void {
    const kept = this.#tensors.get(tensor.name);
    kept?.bytes.set(bytes, (rowStart * tensorBytes(tensor)) / tensor.shape[0]!);
  }

  /** The layer's tensors by name, float16 as float32. */
  widened(): RefTensors {
    return new Map([...this.#tensors].map(([name, { spec, bytes }]) => [name, widen(spec, bytes.buffer)]));
  }
}

function widen({ dtype }: TensorSpec, buffer: ArrayBuffer): Float32Array | Uint32Array | Int32Array {
  if (dtype === 'F16') return f16BitsToF32(new Uint16Array(buffer));
  if (dtype === 'F32') return new Float32Array(buffer);
  return dtype === 'U32' ? new Uint32Array(buffer) : new Int32Array(buffer);
}
