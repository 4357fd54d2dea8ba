/** A layer of a part back in memory, to the last bit as it was quantized. Node only. */
import { FormatError } from '../format/errors';
import type { LayerSpec, Manifest, QuantSpec } from '../format/manifest';
import { storedTensors, type TensorSpec } from '../format/tensors';
import { splitSpecs, storedWeight } from './export';
import { matrix } from './matrix';
import type { QuantizedLayer, QuantizedLinear, QuantizedNorm } from './method';
import { type Part, readTensorBlock } from './parts';
import type { QuantizedMatrix } from './rtn';

/** Stored tensors of one layer, whose spec is the only one that must be known. */
export function layerTensors(
  manifest: Pick<Manifest, 'config' | 'scheme'>,
  quant: QuantSpec,
  index: number,
  spec: LayerSpec,
): readonly TensorSpec[] {
  const layers = Array.from({ length: manifest.config.numLayers }, () => spec);
  return splitSpecs({ ...manifest, quant: { ...quant, layers }, denseDtype: 'F16' }).layers[index]!;
}

/** Tensors of one layer by their names without the layer's. */
class LayerTensors {
  constructor(
    readonly part: Part,
    readonly quant: QuantSpec,
    readonly specs: ReadonlyMap<string, TensorSpec>,
  ) {}

  /** @throws FormatError for a tensor that is not there */
  bytes(name: string): ArrayBuffer {
    const spec = this.specs.get(name);
    if (!spec) throw new FormatError(`${this.part.folder}: expected a tensor ${name}, the layer has none`);
    const blocks = storedTensors([spec], this.part.manifest.maxTensorBytes);
    const whole = Buffer.concat(blocks.map((stored) => readTensorBlock(this.part, stored)));
    return whole.buffer.slice(whole.byteOffset, whole.byteOffset + whole.byteLength) as ArrayBuffer;
  }

  norm(name: string): QuantizedNorm {
    if (this.specs.has(`${name}.weight`)) return { weight: new Float32Array(this.bytes(`${name}.weight`)) };
    return {
      mult: new Float32Array(this.bytes(`${name}.mult`)),
      gather: new Uint32Array(this.bytes(`${name}.gather`)),
      offset: this.specs.has(`${name}.offset`) ? new Int32Array(this.bytes(`${name}.offset`)) : null,
    };
  }

  linear(name: string): QuantizedLinear {
    const hasBias = this.specs.has(`${name}.bias`);
    return {
      weight: this.#weight(name),
      bias: hasBias ? new Float32Array(this.bytes(`${name}.bias`)) : null,
    };
  }

  /** Of q,k,v. */
  prefix(): Pick<QuantizedLinear, 'prefix'> {
    const { prefix } = this.quant;
    if (!prefix) return {};
    const data = new Float32Array(this.bytes('prefix'));
    return { prefix: matrix(prefix.ids.length, data.length / prefix.ids.length, data) };
  }

  #weight(name: string): QuantizedMatrix {
    const rows = this.specs.get(`${name}.weight`)!.shape[0]!;
    const { weightGrid, weightBits } = this.quant;
    const grid = weightGrid && { bits: weightBits, ...weightGrid };
    return storedWeight(name, rows, grid, (tensor) => this.bytes(tensor));
  }
}

/** Layer `index` of the model. @throws FormatError when the part does not hold it */
export function readLayer(part: Part, index: number): QuantizedLayer {
  const { manifest } = part;
  const { range, quant, clip } = manifest;
  const spec = quant.layers[index - range[0]];
  if (!spec) {
    throw new FormatError(`${part.folder}: expected layer ${index}, found layers ${range.join(':')}`);
  }
  const specs = layerTensors(manifest, quant, index, spec);
  const named = new Map(specs.map((tensor) => [tensor.name.replace(/^layers\.\d+\./, ''), tensor]));
  const tensors = new LayerTensors(part, quant, named);
  return {
    spec,
    clip: clip[index - range[0]]!,
    attnNorm: tensors.norm('attn_norm'),
    qkv: { ...tensors.linear('qkv'), ...tensors.prefix() },
    o: tensors.linear('o'),
    mlpNorm: tensors.norm('mlp_norm'),
    gateUp: tensors.linear('gate_up'),
    down: tensors.linear('down'),
  };
}
