/** Compensated layers on disk, named by a hash of all they were made from: an interrupted run goes on behind the last. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildSafetensorsHeader, parseSafetensorsHeader } from '../format/safetensors';
import type { BlockProblem, CompensationOptions } from './compensate';
import { storedWeight, weightTensors } from './export';
import type { QuantizedLayer } from './quantize-layer';
import { linearNames } from './trainable-block';

/** SHA-256 over the settings, the layer before training and both streams. */
export function compensationKey(
  { layer, inputs, targets, method }: BlockProblem,
  options: CompensationOptions,
): string {
  const hash = createHash('sha256');
  const { scheme, actBits, hadamard } = method;
  hash.update(JSON.stringify({ options, scheme, actBits, hadamard, spec: layer.spec }));
  for (const name of linearNames) {
    const { weight, migrated } = layer[name];
    hash.update(weight.codes);
    hash.update(bytesOf(weight.scales));
    if (weight.grid) hash.update(JSON.stringify({ ...weight.grid, zeros: Array.from(weight.grid.zeros) }));
    if (migrated) hash.update(bytesOf(migrated.data));
  }
  const { prefix } = layer.qkv;
  if (prefix) hash.update(bytesOf(prefix.data));
  for (const { data } of [...inputs, ...targets]) hash.update(bytesOf(data));
  return hash.digest('hex');
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function pathOf(folder: string, index: number, key: string): string {
  return join(folder, `layer-${index}-${key.slice(0, 16)}.safetensors`);
}

/** The rate as a tensor; 0 where no try lowered the loss. */
const rateName = 'trained_rate';

/** Writes the trained codes and scales; the file has its name only when it is whole. */
export function saveCompensated(folder: string, index: number, key: string, layer: QuantizedLayer): void {
  mkdirSync(folder, { recursive: true });
  const trained = linearNames.flatMap((name) => {
    return weightTensors(name, layer[name].weight).map(([tensorName, data]) => ({
      name: tensorName,
      dtype: data instanceof Float32Array ? ('F32' as const) : ('U32' as const),
      shape: [data.byteLength / 4],
      data,
    }));
  });
  const rate = new Float64Array([layer.trainedRate ?? 0]);
  const tensors = [...trained, { name: rateName, dtype: 'F64' as const, shape: [1], data: rate }];
  const header = buildSafetensorsHeader(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })));
  const path = pathOf(folder, index, key);
  writeFileSync(`${path}.partial`, Buffer.concat([header, ...tensors.map(({ data }) => bytesOf(data))]));
  renameSync(`${path}.partial`, path);
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** The layer with its trained codes and scales, or null when none are there. @throws SafetensorsError for a damaged file */
export function loadCompensated(
  folder: string,
  index: number,
  key: string,
  layer: QuantizedLayer,
): QuantizedLayer | null {
  const path = pathOf(folder, index, key);
  if (!existsSync(path)) return null;
  const file = readFileSync(path);
  const { tensors } = parseSafetensorsHeader(file, file.length, path);
  const bytes = (name: string) => {
    const { begin, end } = tensors.find((tensor) => tensor.name === name)!;
    return file.buffer.slice(file.byteOffset + begin, file.byteOffset + end) as ArrayBuffer;
  };
  const [rate] = new Float64Array(bytes(rateName));
  const result: Writable<QuantizedLayer> = { ...layer, trainedRate: rate || null };
  for (const name of linearNames) {
    const { rows, grid = null } = layer[name].weight;
    const weight = storedWeight(name, rows, grid, bytes);
    result[name] = { ...layer[name], weight };
  }
  return result;
}
