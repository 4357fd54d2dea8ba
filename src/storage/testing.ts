/** For tests: an artifact small enough to build in memory, a server that misbehaves on demand, stores that remember. */
import type { FileEntry, Manifest } from '../format/manifest';
import { buildSafetensorsHeader } from '../format/safetensors';
import { assignShards, shardName } from '../format/shards';
import { type StoredTensor, storedTensors, tensorSpecs } from '../format/tensors';
import type { StorageEnvironment } from './open-artifact';
import { sha256Hex } from './sha256';
import type { ModelList, ShardStore, StoredModel } from './stores';
import { noTurns } from './turns';

export const testUrl = 'https://models.test/tiny/';

/** Byte `i` of the tensor called `name`: any change of place shows, and every number made of such bytes is finite. */
export function testByte(name: string, i: number): number {
  return (name.length * 31 + name.charCodeAt(name.length - 1) + i * 7) & 0x3f;
}

const config: Manifest['config'] = {
  hiddenSize: 32,
  intermediateSize: 32,
  numLayers: 1,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 16,
  vocabSize: 64,
  maxPositionEmbeddings: 16,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: null,
  tieWordEmbeddings: false,
  attentionBias: false,
  mlpBias: false,
  bosTokenId: 1,
  eosTokenIds: [2],
};

function shardBytes(tensors: readonly StoredTensor[]): ArrayBuffer {
  const entries = tensors.map(({ name, tensor, rows }) => ({
    name,
    dtype: tensor.dtype,
    shape: [rows, ...tensor.shape.slice(1)],
  }));
  const header = buildSafetensorsHeader(entries);
  const data = tensors.flatMap(({ name, bytes }) =>
    Array.from({ length: bytes }, (_, i) => testByte(name, i)),
  );
  return new Uint8Array([...header, ...data]).buffer;
}

export interface TestArtifact {
  readonly manifest: Manifest;
  readonly tensors: readonly StoredTensor[];
  /** Every file of the artifact, the manifest included. */
  readonly files: Map<string, ArrayBuffer>;
}

/** An fp16 model of one layer in several shards; `edit` changes the tensors before they are written. */
export async function testArtifact(
  edit: (tensors: StoredTensor[]) => StoredTensor[] = (tensors) => tensors,
): Promise<TestArtifact> {
  const layout = { config, scheme: 'fp16', quant: null, denseDtype: 'F16', maxTensorBytes: 2048 } as const;
  const tensors = storedTensors(tensorSpecs(layout), layout.maxTensorBytes);
  const files = new Map<string, ArrayBuffer>();
  const entry = async (name: string, bytes: ArrayBuffer): Promise<FileEntry> => {
    files.set(name, bytes);
    return { name, bytes: bytes.byteLength, sha256: await sha256Hex(bytes) };
  };
  const groups = assignShards(edit([...tensors]), 8192);
  const shards = await Promise.all(groups.map((group, i) => entry(shardName(i), shardBytes(group))));
  const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value)).buffer as ArrayBuffer;
  const tokenizerFiles = [
    await entry('tokenizer.json', text({ model: 'test' })),
    await entry('tokenizer_config.json', text({ bos_token: '<s>' })),
  ];
  const manifest: Manifest = {
    format: 'mergequant',
    version: 1,
    name: 'tiny',
    ...layout,
    shards,
    tokenizerFiles,
    provenance: {},
  };
  files.set('manifest.json', text(manifest));
  return { manifest, tensors, files };
}

export interface TestServer {
  readonly fetch: typeof fetch;
  /** File names in the order they were asked for. */
  readonly requests: string[];
  /** Answers of the next requests for a file, in order; then the file itself again. */
  readonly faults: Map<string, (() => Response | Promise<Response>)[]>;
}

/** Serves the artifact at {@link testUrl}, in chunks of 1000 bytes. */
export function testServer(files: ReadonlyMap<string, ArrayBuffer>): TestServer {
  const requests: string[] = [];
  const faults: TestServer['faults'] = new Map();
  const answer = async (input: RequestInfo | URL): Promise<Response> => {
    const name = String(input).replace(testUrl, '');
    requests.push(name);
    const fault = faults.get(name)?.shift();
    if (fault) return fault();
    const bytes = files.get(name);
    if (!bytes) return new Response('no such file', { status: 404 });
    return new Response(chunked(bytes), { headers: { 'content-type': 'application/octet-stream' } });
  };
  return { fetch: answer as typeof fetch, requests, faults };
}

/** The bytes as a stream, cut short after `limit` bytes. */
export function chunked(bytes: ArrayBuffer, limit = bytes.byteLength): ReadableStream<Uint8Array> {
  let position = 0;
  return new ReadableStream({
    pull(controller) {
      if (position >= limit) return controller.close();
      const end = Math.min(position + 1000, limit);
      controller.enqueue(new Uint8Array(bytes.slice(position, end)));
      position = end;
    },
  });
}

export interface TestEnvironment extends StorageEnvironment {
  readonly shardMap: Map<string, ArrayBuffer>;
  readonly modelMap: Map<string, StoredModel>;
}

export function testEnvironment(server: Pick<TestServer, 'fetch'>): TestEnvironment {
  const shardMap = new Map<string, ArrayBuffer>();
  const modelMap = new Map<string, StoredModel>();
  const shards: ShardStore = {
    get: async (key) => shardMap.get(key)?.slice(0),
    put: async (key, bytes) => void shardMap.set(key, bytes.slice(0)),
    has: async (key) => shardMap.has(key),
    delete: async (key) => void shardMap.delete(key),
    list: async () => [...shardMap.keys()],
  };
  const models: ModelList = {
    get: async (url) => modelMap.get(url),
    put: async (model) => void modelMap.set(model.url, model),
    delete: async (url) => void modelMap.delete(url),
    list: async () => [...modelMap.values()],
  };
  const network = { fetch: server.fetch, retryMs: 1, idleMs: 1000 };
  return { network, shards, models, turns: noTurns, now: () => 1000, shardMap, modelMap };
}
