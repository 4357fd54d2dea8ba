/**
 * A structured fuzzer of everything that is read from an artifact before it is trusted: valid manifests and safetensors headers
 * with mutations that keep most of their structure. A reader may accept or refuse by its own error class; anything else (another
 * error, a hang, a prototype changed, an accepted manifest that breaks a promise) is a finding.
 */
import { ManifestError, SafetensorsError } from '../src/format/errors';
import { headerOf, tinyManifest, tinyShards } from '../src/format/manifest-fixture';
import { expectedStoredTensors, parseManifest } from '../src/format/parse-manifest';
import { seededRandom } from '../src/format/random';
import { parseSafetensorsHeader } from '../src/format/safetensors';
import { schemeNames } from '../src/format/scheme';
import { TokenizerError } from '../src/tokenizer/errors';
import { parseTokenizerFiles } from '../src/tokenizer/files';
import { sentencePieceFiles } from '../src/tokenizer/testing';

export interface FuzzReport {
  readonly runs: number;
  readonly refused: number;
  readonly accepted: number;
  /** What should not have happened, with the input that did it. */
  readonly findings: readonly { readonly what: string; readonly input: string }[];
  readonly slowestMs: number;
}

type Next = () => number;
type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const interesting: readonly Json[] = [
  ...[
    null,
    true,
    false,
    0,
    -0,
    -1,
    1,
    0.5,
    1e-320,
    1e308,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    2 ** 53 + 2,
    -(2 ** 53),
  ],
  ...[
    '',
    '0',
    '../x',
    'a\u0000b',
    '__proto__',
    'constructor',
    '\uD800',
    'x'.repeat(300),
    'https://a.example/',
  ],
  ...([[], {}, [[]], [null], { length: -1 }, { toString: null }] as Json[]),
];
const keys = ['__proto__', 'constructor', 'prototype', 'length', 'toString', 'hasOwnProperty', 'name', ''];

function pick<T>(next: Next, values: readonly T[]): T {
  return values[Math.floor(next() * values.length)]!;
}

/** Every container in a value, the value itself first. */
function containers(value: Json): (Json[] | { [key: string]: Json })[] {
  if (typeof value !== 'object' || value === null) return [];
  return [value, ...Object.values(value).flatMap(containers)];
}

/** Changes one place: replaces, removes, adds, copies, swaps, or nudges a number. */
function mutate(root: Json, next: Next): void {
  const target = pick(next, containers(root));
  const names = Object.keys(target);
  const name = names.length > 0 ? pick(next, names) : '0';
  const set = (key: string, value: Json) =>
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  const current = (target as Record<string, Json>)[name] ?? null;
  switch (Math.floor(next() * 6)) {
    case 0:
      return void set(name, structuredClone(pick(next, interesting)));
    case 1:
      return void delete (target as Record<string, Json>)[name];
    case 2:
      return void set(
        Array.isArray(target) ? String(target.length) : pick(next, keys),
        structuredClone(pick(next, interesting)),
      );
    case 3:
      return void set(Array.isArray(target) ? String(target.length) : `${name}2`, structuredClone(current));
    case 4:
      return void set(
        name,
        structuredClone(
          (target as Record<string, Json>)[pick(next, names.length > 0 ? names : ['0'])] ?? null,
        ),
      );
    default:
      if (typeof current === 'number')
        set(
          name,
          pick(next, [current + 1, current - 1, -current, current * 2, current / 2, current * 2 ** 32]),
        );
  }
}

function mutated(value: unknown, next: Next): Json {
  const copy = structuredClone(value) as Json;
  const times = 1 + Math.floor(next() * next() * 6);
  for (let i = 0; i < times; i++) mutate(copy, next);
  return copy;
}

/** One way in: makes an input, reads it, and says what its refusals are called. */
interface Target {
  readonly name: string;
  readonly refusal: new (...args: never[]) => Error;
  readonly make: (next: Next) => { readonly shown: () => string; readonly read: () => void };
}

const manifests = schemeNames.map((scheme) => tinyManifest(scheme));
const headers = tinyShards('mergequant').map((shard) => {
  const bytes = headerOf(shard);
  return {
    json: JSON.parse(new TextDecoder().decode(bytes.subarray(8))) as Json,
    dataBytes: shard.reduce((n, t) => n + t.bytes, 0),
  };
});
const tokenizers = (['first', 'prepend'] as const).map((variant) => sentencePieceFiles(variant));

const targets: readonly Target[] = [
  {
    name: 'manifest',
    refusal: ManifestError,
    make: (next) => {
      const input = JSON.stringify(mutated(pick(next, manifests), next));
      const read = () => promiseOfManifest(parseManifest(JSON.parse(input), 'manifest.json'));
      return { shown: () => input, read };
    },
  },
  {
    name: 'header',
    refusal: SafetensorsError,
    make: (next) => {
      const { json, dataBytes } = pick(next, headers);
      const file = headerFile(JSON.stringify(mutated(json, next)), dataBytes, next);
      const read = () => promiseOfHeader(file);
      return { shown: () => Buffer.from(file.subarray(0, 4000)).toString('latin1'), read };
    },
  },
  {
    name: 'tokenizer',
    refusal: TokenizerError,
    make: (next) => {
      const files = pick(next, tokenizers);
      const small = {
        ...files.tokenizer,
        model: { ...(files.tokenizer.model as object), vocab: { a: 0, b: 1 }, merges: ['a b'] },
      };
      const input = {
        tokenizer: mutated(small, next),
        tokenizerConfig: mutated(files.tokenizerConfig, next),
      };
      return { shown: () => JSON.stringify(input), read: () => void parseTokenizerFiles(input) };
    },
  },
];

/** What the rest of the program relies on once a manifest is accepted. */
function promiseOfManifest(manifest: ReturnType<typeof parseManifest>): void {
  const bytes = [...expectedStoredTensors(manifest).values()].reduce((sum, tensor) => sum + tensor.bytes, 0);
  const total = manifest.shards.reduce((sum, shard) => sum + shard.bytes, 0);
  if (!Number.isSafeInteger(bytes) || bytes > total)
    throw new Error(`accepted ${total} bytes for tensors of ${bytes}`);
  for (const { name } of [...manifest.shards, ...manifest.tokenizerFiles]) {
    const url = new URL(encodeURIComponent(name), 'https://a.example/folder/').href;
    if (!url.startsWith('https://a.example/folder/') || url.length <= 'https://a.example/folder/'.length) {
      throw new Error(`accepted a file outside its folder: ${name}`);
    }
  }
}

function promiseOfHeader(file: Uint8Array): void {
  const { tensors, dataStart } = parseSafetensorsHeader(file, file.length, 'fuzz');
  let at = dataStart;
  for (const { begin, end, name } of tensors) {
    if (begin !== at || end < begin || end > file.length)
      throw new Error(`accepted ${name} at ${begin} to ${end}`);
    at = end;
  }
}

/** Text, length and sometimes flipped bytes put together. */
function headerFile(json: string, dataBytes: number, next: Next): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(json);
  const pad = next() < 0.5 ? (8 - (text.length % 8)) % 8 : 0;
  const file = new Uint8Array(8 + text.length + pad + dataBytes).fill(32, 8, 8 + text.length + pad);
  file.set(text, 8);
  const claimed = next() < 0.9 ? BigInt(text.length + pad) : BigInt(Math.floor(next() * 2 ** 53));
  new DataView(file.buffer).setBigUint64(0, claimed, true);
  for (let flips = next() < 0.3 ? 1 + Math.floor(next() * 4) : 0; flips > 0; flips--) {
    file[Math.floor(next() * (8 + text.length))]! ^= 1 << Math.floor(next() * 8);
  }
  return file;
}

/** Slower than this counts as a finding: reading must be bounded. */
const slowMs = 1000;

/** Runs `count` mutated inputs; the same seed gives the same inputs. */
export function fuzz(count: number, seed: number): FuzzReport {
  const next = seededRandom(seed);
  const findings: { what: string; input: string }[] = [];
  const prototype = Object.getOwnPropertyNames(Object.prototype).join();
  let refused = 0;
  let slowestMs = 0;
  for (let run = 0; run < count; run++) {
    const target = targets[run % targets.length]!;
    const { shown, read } = target.make(next);
    const start = performance.now();
    const find = (what: string) =>
      findings.push({ what: `${target.name}: ${what}`, input: shown().slice(0, 2000) });
    try {
      read();
    } catch (error) {
      if (error instanceof target.refusal) refused++;
      else find(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
    }
    const ms = performance.now() - start;
    slowestMs = Math.max(slowestMs, ms);
    if (ms > slowMs) find(`took ${Math.round(ms)} ms`);
    if (Object.getOwnPropertyNames(Object.prototype).join() !== prototype) find('changed Object.prototype');
  }
  return { runs: count, refused, accepted: count - refused - findings.length, findings, slowestMs };
}
