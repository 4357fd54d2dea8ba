/**
 * Safetensors headers: u64 little-endian header length, a JSON object, then the tensors' bytes. A header is validated
 * whole against the file's length before anyone makes a view: every name, dtype, shape and byte range is checked, and
 * the ranges cover the data exactly.
 */
import { SafetensorsError, shown } from './errors';

/** Bytes per element of every dtype accepted. */
const elementBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;
export type SafetensorsDtype = keyof typeof elementBytes;

export const maxSafetensorsHeaderBytes = 100_000_000;
const lengthBytes = 8;
const headerAlignment = 8;

export interface SafetensorsTensor {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Offset of the first byte in the file. */
  readonly begin: number;
  /** Offset after the last byte in the file. */
  readonly end: number;
}

export interface SafetensorsHeader {
  /** File offset of the first tensor byte: 8 + header length. */
  readonly dataStart: number;
  /** In the order of their bytes. */
  readonly tensors: readonly SafetensorsTensor[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** What a writer knows before it writes. */
export type SafetensorsEntry = Pick<SafetensorsTensor, 'name' | 'dtype' | 'shape'>;

function fail(file: string, where: string, expected: string, found: string): never {
  throw new SafetensorsError({ file, where, expected, found });
}

/** Bytes of one tensor, or null where the product leaves the safe integers. */
function checkedBytes(dtype: SafetensorsDtype, shape: readonly number[]): number | null {
  if (shape.includes(0)) return 0;
  let bytes: number = elementBytes[dtype];
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) return null;
  }
  return bytes;
}

/**
 * Bytes to read before {@link parseSafetensorsHeader}: 8 + header length, from the file's first 8 bytes.
 * @throws SafetensorsError if the length exceeds the cap or the file.
 */
export function safetensorsHeaderBytes(prefix: Uint8Array, fileBytes: number, fileName: string): number {
  if (prefix.length < lengthBytes || fileBytes < lengthBytes) {
    fail(fileName, '', 'at least 8 bytes', `${Math.min(prefix.length, fileBytes)} bytes`);
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, lengthBytes);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(maxSafetensorsHeaderBytes)) {
    fail(fileName, 'header length', `at most ${maxSafetensorsHeaderBytes} bytes`, `${length}`);
  }
  const total = lengthBytes + Number(length);
  if (total > fileBytes) {
    fail(fileName, 'header length', `at most the file's ${fileBytes - lengthBytes} bytes`, `${length}`);
  }
  return total;
}

/**
 * Validates a whole header against the length of its file.
 * @param bytes the file's beginning, at least {@link safetensorsHeaderBytes} long.
 * @throws SafetensorsError naming the file, the tensor, what was expected and what was found.
 */
export function parseSafetensorsHeader(
  bytes: Uint8Array,
  fileBytes: number,
  fileName: string,
): SafetensorsHeader {
  const dataStart = safetensorsHeaderBytes(bytes, fileBytes, fileName);
  if (bytes.length < dataStart) fail(fileName, 'header', `${dataStart} bytes`, `${bytes.length} bytes`);
  const json = parseObject(bytes.subarray(lengthBytes, dataStart), fileName);
  const metadata = parseMetadata(json.__metadata__, fileName);
  const tensors = Object.entries(json)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, entry]) => parseTensor(name, entry, dataStart, fileName))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCoverage(tensors, dataStart, fileBytes, fileName);
  return { dataStart, tensors, metadata };
}

function parseObject(bytes: Uint8Array, fileName: string): Record<string, unknown> {
  let json: unknown;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (error) {
    return fail(fileName, 'header', 'JSON in UTF-8', error instanceof Error ? error.message : String(error));
  }
  if (!text.startsWith('{'))
    fail(fileName, 'header', 'a JSON object that starts with {', shown(text.slice(0, 20)));
  refuseDuplicateNames(text, fileName);
  const object = json as Record<string, unknown>;
  if (Object.hasOwn(object, '__proto__')) fail(fileName, 'header', 'no key __proto__', '__proto__');
  return object;
}

/** JSON.parse keeps the last of equal keys silently; another reader may keep the first. */
function refuseDuplicateNames(text: string, fileName: string): void {
  const names = new Set<string>();
  for (const name of topLevelKeys(text)) {
    if (names.has(name)) fail(fileName, name, 'each name once', 'the name twice');
    names.add(name);
  }
}

/** Keys of a JSON object in valid JSON text, repeated ones too. */
function* topLevelKeys(text: string): Generator<string> {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (char === '{') depth++;
    else if (char === '}') depth--;
    else if (char === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      if (depth === 1 && isBeforeColon(text, i + 1)) yield JSON.parse(text.slice(start, i + 1)) as string;
    }
  }
}

function isBeforeColon(text: string, from: number): boolean {
  let i = from;
  while (' \t\r\n'.includes(text[i]!)) i++;
  return text[i] === ':';
}

function parseMetadata(value: unknown, fileName: string): Record<string, string> {
  if (value === undefined) return {};
  const strings =
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((entry) => typeof entry === 'string');
  if (!strings || Object.hasOwn(value, '__proto__')) {
    fail(fileName, '__metadata__', 'an object of strings', shown(value));
  }
  return value as Record<string, string>;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function parseTensor(name: string, entry: unknown, dataStart: number, fileName: string): SafetensorsTensor {
  if (
    typeof entry !== 'object' ||
    entry === null ||
    Array.isArray(entry) ||
    Object.hasOwn(entry, '__proto__')
  ) {
    return fail(fileName, name, 'an object with dtype, shape and data_offsets', shown(entry));
  }
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (typeof dtype !== 'string' || !Object.hasOwn(elementBytes, dtype)) {
    return fail(fileName, name, `a dtype of ${Object.keys(elementBytes).join(', ')}`, shown(dtype));
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    return fail(fileName, name, 'a shape of non-negative integers', shown(shape));
  }
  const bytes = checkedBytes(dtype as SafetensorsDtype, shape);
  if (bytes === null) return fail(fileName, name, 'a byte length below 2^53', `${dtype} ${shown(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return fail(fileName, name, 'data_offsets of two non-negative integers', shown(offsets));
  }
  const [begin, end] = offsets as [number, number];
  if (end - begin !== bytes) {
    fail(fileName, name, `${bytes} bytes for ${dtype} ${shown(shape)}`, `data_offsets ${shown(offsets)}`);
  }
  return { name, dtype: dtype as SafetensorsDtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/** Without gaps, overlaps, or bytes that no tensor owns. */
function checkCoverage(
  tensors: readonly SafetensorsTensor[],
  dataStart: number,
  fileBytes: number,
  fileName: string,
): void {
  let position = dataStart;
  for (const { name, begin, end } of tensors) {
    if (begin !== position) {
      fail(fileName, name, `data to begin at byte ${position - dataStart}`, `byte ${begin - dataStart}`);
    }
    if (end > fileBytes) {
      fail(fileName, name, `data to end within the file's ${fileBytes} bytes`, `byte ${end} of the file`);
    }
    position = end;
  }
  if (position !== fileBytes) {
    fail(fileName, '', `${position} bytes, where the last tensor ends`, `${fileBytes} bytes`);
  }
}

/**
 * The beginning of a file for tensors whose bytes follow in this order: u64 length and JSON, padded with spaces so that
 * the data starts at a multiple of 8.
 * @throws SafetensorsError if a name is reserved or repeated, a shape is no shape, or the header exceeds the cap.
 */
export function buildSafetensorsHeader(
  entries: readonly SafetensorsEntry[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const header = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) header.set('__metadata__', metadata);
  let position = 0;
  for (const { name, dtype, shape } of entries) {
    if (name === '__metadata__' || name === '__proto__') fail('new file', name, 'no reserved name', name);
    if (header.has(name)) fail('new file', name, 'each name once', 'the name twice');
    const bytes = shape.every(isSize) ? checkedBytes(dtype, shape) : null;
    if (bytes === null) return fail('new file', name, 'a shape below 2^53 bytes', `${dtype} ${shown(shape)}`);
    header.set(name, { dtype, shape, data_offsets: [position, position + bytes] });
    position += bytes;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const length = Math.ceil(json.length / headerAlignment) * headerAlignment;
  if (length > maxSafetensorsHeaderBytes) {
    fail('new file', 'header length', `at most ${maxSafetensorsHeaderBytes} bytes`, `${length}`);
  }
  const bytes = new Uint8Array(lengthBytes + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, lengthBytes);
  return bytes;
}
