/** Random models of any layout: the same tensors on the GPU and, widened, for the reference. For tests and the self-test. */
import { f16BitsToF32, f32ToF16Bits } from '../format/half';
import { normals, seededRandom } from '../format/random';
import { type ModelLayout, storedTensors, type TensorSpec, tensorSpecs } from '../format/tensors';
import { gridWord, storableStep } from '../format/weight-grid';
import type { Gpu } from '../gpu/gpu';
import type { RefTensors } from './forward.ref';
import type { ModelWeights } from './weights';
import { WeightsLoader } from './weights-loader';

type Data =
  | Float32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>;

/** Sensible magnitudes, so that activations neither vanish nor explode. */
function randomTensor(spec: TensorSpec, layout: ModelLayout, seed: number): Data {
  const count = spec.shape.reduce((product, size) => product * size, 1);
  const D = layout.config.hiddenSize;
  if (spec.name.endsWith('.gather')) return Uint32Array.from({ length: count }, (_, k) => (k * 7) % D);
  if (spec.name.endsWith('.offset')) return Int32Array.from({ length: count }, (_, k) => (k % 3) - 1);
  if (spec.name.endsWith('.mult')) return normals(count, seed).map((value) => 2.5 + 0.3 * value);
  if (/^(embed|head)\.scale$/.test(spec.name))
    return normals(count, seed).map((v) => (1 + 0.1 * v) / 127 / Math.sqrt(D));
  if (spec.name.endsWith('.scale')) return normals(count, seed).map((v) => (0.02 + 0.002 * v) / Math.sqrt(D));
  if (spec.name.endsWith('norm.weight')) return normals(count, seed).map((value) => 1 + 0.2 * value);
  if (spec.name.endsWith('.grid')) {
    const zeros = seededRandom(seed);
    return Uint32Array.from(normals(count, seed), (v) =>
      gridWord(storableStep((0.002 + 0.0002 * v) / Math.sqrt(D)), Math.floor(40 + 40 * zeros())),
    );
  }
  if (spec.name.endsWith('.prefix')) return normals(count, seed);
  if (spec.dtype === 'U32') {
    const next = seededRandom(seed);
    return Uint32Array.from({ length: count }, () => next() * 2 ** 32);
  }
  if (spec.dtype === 'I8') {
    const next = seededRandom(seed);
    return Int8Array.from({ length: count }, () => Math.floor(next() * 256) - 128);
  }
  const wide = normals(count, seed, spec.shape.length === 2 ? 1 / Math.sqrt(spec.shape[1]!) : 0.1);
  return spec.dtype === 'F16' ? new Uint16Array(f32ToF16Bits(wide)) : wide;
}

/** Bytes times the scale of their row. */
function widenedRows(codes: Int8Array, scales: ArrayLike<number>): Float32Array {
  const cols = codes.length / scales.length;
  return Float32Array.from(codes, (code, i) => code * scales[Math.floor(i / cols)]!);
}

/** `embed.scale` of `embed.weight`. */
function scaleName(name: string): string {
  return name.replace(/weight$/, 'scale');
}

export interface RandomModel {
  readonly layout: ModelLayout;
  readonly data: ReadonlyMap<string, { readonly spec: TensorSpec; readonly data: Data }>;
  readonly reference: RefTensors;
}

/** A model of random tensors. */
export function randomModel(layout: ModelLayout, seed: number): RandomModel {
  const data = new Map<string, { spec: TensorSpec; data: Data }>();
  const reference = new Map<string, Float32Array | Uint32Array | Int32Array>();
  tensorSpecs(layout).forEach((spec, i) => {
    const values = randomTensor(spec, layout, seed * 1000 + i);
    data.set(spec.name, { spec, data: values });
    if (values instanceof Uint16Array) reference.set(spec.name, f16BitsToF32(values));
    else if (!(values instanceof Int8Array)) reference.set(spec.name, values);
  });
  for (const [name, { data: codes }] of data) {
    if (codes instanceof Int8Array) reference.set(name, widenedRows(codes, reference.get(scaleName(name))!));
  }
  return { layout, data, reference };
}

/** Uploads a random model as an artifact would come: in row blocks of at most `maxTensorBytes`. */
export function uploadModel(
  gpu: Gpu,
  model: RandomModel,
  { maxTensorBytes = 20_000, checkLayer = null as number | null, isPacked = false } = {},
): Promise<ModelWeights> {
  const loader = WeightsLoader.create(gpu, model.layout, checkLayer, isPacked);
  for (const stored of storedTensors(tensorSpecs(model.layout), maxTensorBytes)) {
    const { data } = model.data.get(stored.tensor.name)!;
    const rowBytes = data.byteLength / stored.tensor.shape[0]!;
    loader.write(stored, new Uint8Array(data.buffer, rowBytes * stored.rowStart, stored.bytes));
  }
  return loader.finish();
}
