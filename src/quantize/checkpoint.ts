/** A Hugging Face Llama folder read piecewise, with its tensors fused as the artifact stores them. Node only. */
import { existsSync } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { LlamaConfig } from '../format/config';
import { FormatError, SafetensorsError, shown } from '../format/errors';
import { bf16Table, f16Table } from '../format/half';
import { parseHfConfig } from '../format/hf-config';
import { type HfTensor, hfTensors, matchHfTensors } from '../format/hf-tensors';
import {
  parseSafetensorsHeader,
  type SafetensorsTensor,
  safetensorsHeaderBytes,
} from '../format/safetensors';
import { type TensorSpec, tensorSpecs } from '../format/tensors';
import type { LayerWeights, Linear } from './layer';
import { matrix } from './matrix';

type LocatedTensor = SafetensorsTensor & { readonly file: string; readonly handle: FileHandle };

/** Parses a JSON file. @throws FormatError naming the file when it is missing or no JSON. */
export async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new FormatError(`${path}: expected the file, found none that can be read`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${path}: expected JSON, found ${(cause as Error).message}`, { cause });
  }
}

/** The safetensors files of a folder: those of its index, or model.safetensors. */
async function weightFiles(folder: string): Promise<string[]> {
  const index = join(folder, 'model.safetensors.index.json');
  if (!existsSync(index)) {
    if (existsSync(join(folder, 'model.safetensors'))) return ['model.safetensors'];
    const expected = 'model.safetensors or model.safetensors.index.json';
    throw new FormatError(`${folder}: expected ${expected}, found neither`);
  }
  const map = ((await readJson(index)) as { weight_map?: unknown } | null)?.weight_map;
  const files = typeof map === 'object' && map !== null ? [...new Set(Object.values(map))] : [];
  const isPlain = (file: unknown) => typeof file === 'string' && file !== '' && basename(file) === file;
  if (files.length === 0 || !files.every(isPlain)) {
    throw new FormatError(`${index}: weight_map: expected plain file names, found ${shown(map)}`);
  }
  return (files as string[]).sort();
}

async function readBytes(
  handle: FileHandle,
  file: string,
  begin: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(end - begin);
  let at = 0;
  while (at < bytes.length) {
    const { bytesRead } = await handle.read(bytes, at, bytes.length - at, begin + at);
    if (bytesRead === 0) {
      const expected = `bytes up to ${end}`;
      throw new SafetensorsError({ file, where: '', expected, found: `the end at ${begin + at}` });
    }
    at += bytesRead;
  }
  return bytes;
}

async function openTensors(path: string): Promise<{ handle: FileHandle; tensors: LocatedTensor[] }> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (cause) {
    throw new FormatError(`${path}: expected the file, found none that can be read`, { cause });
  }
  try {
    const { size } = await handle.stat();
    const prefix = await readBytes(handle, path, 0, Math.min(8, size));
    const header = await readBytes(handle, path, 0, safetensorsHeaderBytes(prefix, size, path));
    const { tensors } = parseSafetensorsHeader(header, size, path);
    return { handle, tensors: tensors.map((tensor) => ({ ...tensor, file: path, handle })) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Bits of infinities and NaN are these and more. */
const exponentBits = 0x7f800000;

/** Writes `width` values from element `start` of a tensor as float32 bits, and counts those that are not finite. */
type RowDecoder = (start: number, words: Uint32Array, at: number, width: number) => number;

/** 16-bit values through a table of their float32 bits: conversion, check and the rows' new places in one pass. */
function halvesDecoder(source: Uint16Array, table: Uint32Array): RowDecoder {
  return (start, words, at, width) => {
    let bad = 0;
    for (let k = 0; k < width; k++) {
      const bits = table[source[start + k]!]!;
      if ((bits & exponentBits) === exponentBits) bad++;
      words[at + k] = bits;
    }
    return bad;
  };
}

function floatsDecoder(source: Uint32Array): RowDecoder {
  return (start, words, at, width) => {
    let bad = 0;
    for (let k = 0; k < width; k++) {
      const bits = source[start + k]!;
      if ((bits & exponentBits) === exponentBits) bad++;
      words[at + k] = bits;
    }
    return bad;
  };
}

function rowDecoder(buffer: ArrayBuffer, dtype: SafetensorsTensor['dtype']): RowDecoder {
  if (dtype === 'F32') return floatsDecoder(new Uint32Array(buffer));
  return halvesDecoder(new Uint16Array(buffer), dtype === 'F16' ? f16Table() : bf16Table());
}

export class Checkpoint {
  readonly #targets = new Map<string, HfTensor[]>();
  readonly #specs: ReadonlyMap<string, TensorSpec>;

  private constructor(
    readonly folder: string,
    readonly config: LlamaConfig,
    readonly tensors: ReadonlyMap<string, LocatedTensor>,
    readonly handles: readonly FileHandle[],
  ) {
    for (const tensor of hfTensors(config)) {
      this.#targets.set(tensor.target, [...(this.#targets.get(tensor.target) ?? []), tensor]);
    }
    const specs = tensorSpecs({ config, scheme: 'fp16', quant: null, denseDtype: 'F32' });
    this.#specs = new Map(specs.map((spec) => [spec.name, spec]));
  }

  /**
   * Reads config and headers, and holds them against each other.
   * @throws FormatError and its kinds, naming file, tensor or field, what was expected and what was found.
   */
  static async open(folder: string): Promise<Checkpoint> {
    const configPath = join(folder, 'config.json');
    const config = parseHfConfig(await readJson(configPath), configPath);
    const handles: FileHandle[] = [];
    try {
      const found: LocatedTensor[] = [];
      for (const file of await weightFiles(folder)) {
        const { handle, tensors } = await openTensors(join(folder, file));
        handles.push(handle);
        found.push(...tensors);
      }
      return new Checkpoint(folder, config, matchHfTensors(config, found, folder), handles);
    } catch (error) {
      for (const handle of handles) await handle.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    for (const handle of this.handles) await handle.close();
  }

  /**
   * Rows of a tensor by its name in the `fp16` scheme, such as `layers.0.qkv.weight`, as float32.
   * @throws SafetensorsError for values that are not finite
   */
  async rows(name: string, rowStart: number, rows: number): Promise<Float32Array> {
    const parts = this.#targets.get(name) ?? [];
    const width = this.#specs
      .get(name)!
      .shape.slice(1)
      .reduce((a, b) => a * b, 1);
    const out = new Float32Array(rows * width);
    for (const part of parts) {
      const first = Math.max(0, Math.ceil((rowStart - part.rowStart) / part.rowStride));
      const end = Math.min(part.shape[0]!, Math.ceil((rowStart + rows - part.rowStart) / part.rowStride));
      if (end <= first) continue;
      const at = (part.rowStart + first * part.rowStride - rowStart) * width;
      await this.#read(part.hf, [first, end], width, out, at, part.rowStride * width);
    }
    return out;
  }

  /** A whole tensor by its name in the `fp16` scheme. */
  tensor(name: string): Promise<Float32Array> {
    return this.rows(name, 0, this.#specs.get(name)!.shape[0]!);
  }

  async #linear(name: string): Promise<Linear> {
    const [rows, cols] = this.#specs.get(`${name}.weight`)!.shape as [number, number];
    const weight = matrix(rows, cols, await this.tensor(`${name}.weight`));
    return { weight, bias: this.#specs.has(`${name}.bias`) ? await this.tensor(`${name}.bias`) : null };
  }

  async layer(index: number): Promise<LayerWeights> {
    const at = `layers.${index}`;
    return {
      attnNorm: await this.tensor(`${at}.attn_norm.weight`),
      qkv: await this.#linear(`${at}.qkv`),
      o: await this.#linear(`${at}.o`),
      mlpNorm: await this.tensor(`${at}.mlp_norm.weight`),
      gateUp: await this.#linear(`${at}.gate_up`),
      down: await this.#linear(`${at}.down`),
    };
  }

  /** Rows [first, end) of a stored tensor into `out`, from `at` on and `stride` apart. @throws SafetensorsError */
  async #read(
    hfName: string,
    [first, end]: readonly [number, number],
    width: number,
    out: Float32Array,
    at: number,
    stride: number,
  ): Promise<void> {
    const { file, handle, dtype, begin } = this.tensors.get(hfName)!;
    const rowBytes = width * (dtype === 'F32' ? 4 : 2);
    const bytes = await readBytes(handle, file, begin + first * rowBytes, begin + end * rowBytes);
    const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
    const decode = rowDecoder(bytes.buffer, dtype);
    let bad = 0;
    for (let row = 0; row < end - first; row++) bad += decode(row * width, words, at + row * stride, width);
    if (bad > 0) {
      const found = `${bad} of ${(end - first) * width} that are not`;
      throw new SafetensorsError({ file, where: hfName, expected: 'finite values', found });
    }
  }
}
