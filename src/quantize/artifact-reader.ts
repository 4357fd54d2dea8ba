/** Reads an artifact's tensors back on the host, to measure and to test what was written. Node only. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { f16BitsToF32 } from '../format/half';
import { unpackInt4 } from '../format/int4';
import type { Manifest } from '../format/manifest';
import { parseManifest } from '../format/parse-manifest';
import { parseSafetensorsHeader } from '../format/safetensors';
import { storedTensors, type TensorSpec, tensorSpecs } from '../format/tensors';
import { unpackOnGrid } from './asymmetric';
import { dequantize, type QuantizedMatrix } from './rtn';

type TensorData = Float32Array | Uint32Array | Int32Array;

export interface Artifact {
  readonly manifest: Manifest;
  /** Whole tensors by name; F16 widened to float32, I8 times the scale of its row. */
  readonly tensors: ReadonlyMap<string, TensorData>;
}

function decode(spec: TensorSpec, bytes: Buffer): TensorData {
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  if (spec.dtype === 'F16') return f16BitsToF32(new Uint16Array(buffer));
  if (spec.dtype === 'F32') return new Float32Array(buffer);
  if (spec.dtype === 'I8') return Float32Array.from(new Int8Array(buffer));
  return spec.dtype === 'U32' ? new Uint32Array(buffer) : new Int32Array(buffer);
}

/** Reads every tensor that the manifest implies. @throws FormatError, or Error naming a tensor that is missing. */
export function readArtifact(folder: string): Artifact {
  const manifestText = readFileSync(join(folder, 'manifest.json'), 'utf8');
  const manifest = parseManifest(JSON.parse(manifestText), join(folder, 'manifest.json'));
  const pieces = new Map<string, Buffer>();
  for (const { name } of manifest.shards) {
    const bytes = readFileSync(join(folder, name));
    for (const tensor of parseSafetensorsHeader(bytes, bytes.length, name).tensors) {
      pieces.set(tensor.name, bytes.subarray(tensor.begin, tensor.end));
    }
  }
  const tensors = new Map<string, TensorData>();
  for (const spec of tensorSpecs(manifest)) {
    const stored = storedTensors([spec], manifest.maxTensorBytes).map(({ name }) => {
      const piece = pieces.get(name);
      if (!piece) throw new Error(`${folder}: tensor ${name} is in no shard`);
      return piece;
    });
    tensors.set(spec.name, decode(spec, Buffer.concat(stored)));
  }
  for (const { name, dtype } of tensorSpecs(manifest)) {
    if (dtype === 'I8') scaleRows(tensors.get(name)!, tensors.get(name.replace(/weight$/, 'scale'))!);
  }
  return { manifest, tensors };
}

/** Multiplies each row, in place, by its scale. */
function scaleRows(values: TensorData, scales: TensorData): void {
  const cols = values.length / scales.length;
  for (let i = 0; i < values.length; i++) values[i] = values[i]! * scales[Math.floor(i / cols)]!;
}

/** A tensor as float32 [N, K']: packed int4 codes become the numbers −8 … 7, a weight on a grid its values. */
export function floats(artifact: Artifact, name: string): Float32Array<ArrayBuffer> {
  const data = artifact.tensors.get(name);
  if (!data) throw new Error(`tensor ${name} is not part of this model`);
  if (!(data instanceof Uint32Array)) return Float32Array.from(data);
  const onGrid = gridWeight(artifact, name, data);
  return Float32Array.from(onGrid ? dequantize(onGrid).data : unpackInt4(data, 1, data.length * 8));
}

function gridWeight(
  { manifest, tensors }: Artifact,
  name: string,
  levels: Uint32Array,
): QuantizedMatrix | null {
  const { quant } = manifest;
  const gridName = name.replace(/weight$/, 'grid');
  const spec = tensorSpecs(manifest).find((tensor) => tensor.name === gridName);
  const words = tensors.get(gridName);
  if (!quant?.weightGrid || !spec || !(words instanceof Uint32Array)) return null;
  return unpackOnGrid(levels, words, { bits: quant.weightBits, ...quant.weightGrid }, spec.shape[0]!);
}
