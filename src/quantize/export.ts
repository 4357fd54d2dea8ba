/** From quantized layers and dense matrices to the tensors of the artifact. Node only. */
import { FormatError } from '../format/errors';
import { f32ToF16Bits } from '../format/half';
import { packInt4, unpackInt4 } from '../format/int4';
import { type ModelLayout, type TensorSpec, tensorSpecs } from '../format/tensors';
import type { ArtifactWriter } from './artifact-writer';
import { type AsymmetricGrid, packOnGrid, unpackOnGrid } from './asymmetric';
import type { QuantizedLayer, QuantizedLinear, QuantizedNorm } from './quantize-layer';
import type { WeightSource } from './rotate';
import type { QuantizedMatrix } from './rtn';

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** float32 as the stored dtype. @throws FormatError naming the tensor and how many values float16 cannot hold */
function encodeDense(values: Float32Array, dtype: TensorSpec['dtype'], name: string): Uint8Array {
  if (dtype === 'F32') return bytesOf(values);
  try {
    return bytesOf(f32ToF16Bits(values));
  } catch (cause) {
    throw new FormatError(`${name}: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Rows as signed bytes of −127 to 127 with a scale each, 1 for a row of zeros.
 * @throws FormatError for a value that is not finite
 */
export function byteRows(
  values: Float32Array,
  rows: number,
): { readonly codes: Int8Array; readonly scales: Float32Array } {
  const cols = values.length / rows;
  const scales = new Float32Array(rows);
  const codes = new Int8Array(values.length);
  for (let row = 0; row < rows; row++) {
    const own = values.subarray(row * cols, (row + 1) * cols);
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (!Number.isFinite(largest))
      throw new FormatError(`row ${row}: expected finite numbers, found ${largest}`);
    const scale = Math.fround(largest / 127) || 1;
    scales[row] = scale;
    for (let k = 0; k < cols; k++) {
      codes[row * cols + k] = Math.max(-127, Math.min(127, Math.round(own[k]! / scale)));
    }
  }
  return { codes, scales };
}

/** Copies tensors that stay dense, and makes bytes of an embedding or head, block by block, from the checkpoint. */
export async function writeDense(
  writer: ArtifactWriter,
  checkpoint: WeightSource,
  specs: readonly TensorSpec[],
): Promise<void> {
  for (const spec of specs) {
    await writer.addTensor(spec, async (rowStart, rows) => {
      const name = spec.name.replace(/^(embed|head)\.scale$/, '$1.weight');
      const values = await checkpoint.rows(name, rowStart, rows);
      if (spec.dtype === 'I8') return bytesOf(byteRows(values, rows).codes);
      if (name !== spec.name) return bytesOf(byteRows(values, rows).scales);
      return encodeDense(values, spec.dtype, spec.name);
    });
  }
}

/** Tensors of a layout by place: in front of the layers, in each layer, behind them. All in storage order. */
export function splitSpecs(layout: ModelLayout): {
  readonly before: readonly TensorSpec[];
  readonly layers: readonly (readonly TensorSpec[])[];
  readonly after: readonly TensorSpec[];
} {
  const specs = tensorSpecs(layout);
  const layerOf = ({ name }: TensorSpec) => Number(/^layers\.(\d+)\./.exec(name)?.[1] ?? -1);
  const numbers = Array.from({ length: layout.config.numLayers }, (_, layer) => layer);
  return {
    before: specs.filter(({ name }) => name.startsWith('embed.')),
    layers: numbers.map((layer) => specs.filter((spec) => layerOf(spec) === layer)),
    after: specs.filter((spec) => layerOf(spec) < 0 && !spec.name.startsWith('embed.')),
  };
}

function normTensors(name: string, norm: QuantizedNorm): [string, ArrayBufferView][] {
  if ('weight' in norm) return [[`${name}.weight`, norm.weight]];
  return [
    [`${name}.mult`, norm.mult],
    [`${name}.gather`, norm.gather],
    ...(norm.offset ? [[`${name}.offset`, norm.offset] as [string, ArrayBufferView]] : []),
  ];
}

/** A quantized weight as it is stored. */
export function weightTensors(name: string, weight: QuantizedMatrix): [string, ArrayBufferView][] {
  if (weight.grid) {
    const { weight: levels, grid } = packOnGrid(weight, weight.grid);
    return [
      [`${name}.weight`, levels],
      [`${name}.grid`, grid],
    ];
  }
  return [
    [`${name}.weight`, packInt4(weight.codes, weight.rows, weight.cols)],
    [`${name}.scale`, weight.scales],
  ];
}

/** What `weightTensors` made, back from its bytes. */
export function storedWeight(
  name: string,
  rows: number,
  grid: AsymmetricGrid | null,
  bytes: (name: string) => ArrayBuffer,
): QuantizedMatrix {
  const words = new Uint32Array(bytes(`${name}.weight`));
  if (grid) return unpackOnGrid(words, new Uint32Array(bytes(`${name}.grid`)), grid, rows);
  const cols = (words.length / rows) * 8;
  const codes = Int8Array.from(unpackInt4(words, rows, cols));
  return { rows, cols, codes, scales: new Float32Array(bytes(`${name}.scale`)) };
}

function linearTensors(name: string, { weight, bias }: QuantizedLinear): [string, ArrayBufferView][] {
  return [
    ...weightTensors(name, weight),
    ...(bias ? [[`${name}.bias`, bias] as [string, ArrayBufferView]] : []),
  ];
}

function prefixTensors({ prefix }: QuantizedLinear): [string, ArrayBufferView][] {
  return prefix ? [['prefix', prefix.data]] : [];
}

/** Writes one quantized layer in storage order. */
export async function writeLayer(
  writer: ArtifactWriter,
  layer: QuantizedLayer,
  specs: readonly TensorSpec[],
): Promise<void> {
  const tensors = new Map([
    ...normTensors('attn_norm', layer.attnNorm),
    ...linearTensors('qkv', layer.qkv),
    ...linearTensors('o', layer.o),
    ...normTensors('mlp_norm', layer.mlpNorm),
    ...linearTensors('gate_up', layer.gateUp),
    ...linearTensors('down', layer.down),
    ...prefixTensors(layer.qkv),
  ]);
  for (const spec of specs) {
    const data = tensors.get(spec.name.replace(/^layers\.\d+\./, ''));
    if (!data) throw new Error(`${spec.name} was not made`);
    const rowBytes = data.byteLength / spec.shape[0]!;
    const bytes = bytesOf(data);
    await writer.addTensor(spec, (start, rows) =>
      bytes.subarray(start * rowBytes, (start + rows) * rowBytes),
    );
  }
}
