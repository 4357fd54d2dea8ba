/** A whole artifact of random weights, small enough to build in milliseconds, with a tokenizer: it chats nonsense, always the same. */
import { createHash, randomBytes } from 'node:crypto';
import { f32ToF16Bits } from '../src/format/half';
import type { FileEntry, Manifest } from '../src/format/manifest';
import { parseManifest } from '../src/format/parse-manifest';
import { buildSafetensorsHeader } from '../src/format/safetensors';
import { assignShards, shardName } from '../src/format/shards';
import { type StoredTensor, storedTensors, tensorSpecs } from '../src/format/tensors';
import { sentencePieceFiles } from '../src/tokenizer/testing';

/** Roles in brackets, one line a message. */
const template =
  "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}";

export interface TinyArtifact {
  readonly manifest: Manifest;
  /** Every file of the artifact by name, the manifest included. */
  readonly files: Map<string, Uint8Array<ArrayBuffer>>;
}

export interface TinyOptions {
  readonly template?: string;
  readonly maxPositionEmbeddings?: number;
  /** Heads of queries and of keys alike, and their size: a KV cache as large as a test needs it. */
  readonly heads?: { readonly count: number; readonly dim: number };
  /** A further file of so many random bytes. */
  readonly ballastBytes?: number;
  /** Another seed, other weights. */
  readonly seed?: number;
}

export function tinyArtifact(options: TinyOptions = {}): TinyArtifact {
  const tokenizer = sentencePieceFiles('first', { template: options.template ?? template });
  const { vocab } = tokenizer.tokenizer.model as { vocab: Record<string, number> };
  const { heads } = options;
  const layer = { attnInputs: 64, mlpInputs: 32, attnOffsets: false, mlpOffsets: false };
  const layout: Omit<Manifest, 'shards' | 'tokenizerFiles'> = {
    format: 'mergequant',
    version: 1,
    name: 'tiny',
    config: {
      ...{ hiddenSize: 32, intermediateSize: 64, numLayers: 1, numHeads: 2, numKvHeads: 1, headDim: 16 },
      ...(heads ? { numHeads: heads.count, numKvHeads: heads.count, headDim: heads.dim } : {}),
      ...{ vocabSize: Object.keys(vocab).length, rmsNormEps: 1e-5, ropeTheta: 10_000, ropeScaling: null },
      maxPositionEmbeddings: options.maxPositionEmbeddings ?? 256,
      ...{ tieWordEmbeddings: false, attentionBias: false, mlpBias: false, bosTokenId: 1, eosTokenIds: [2] },
    },
    scheme: 'mergequant',
    quant: {
      ...{ actBits: 4, weightBits: 4, weightGrid: null, reconstruct: 'pad', alpha: 5, hadamard: null },
      layers: [{ ...layer, attnAct: 1, oAct: 0.9, mlpAct: 1, downAct: 0.9 }],
    },
    denseDtype: 'F16',
    maxTensorBytes: 8192,
    provenance: {},
  };
  const files: TinyArtifact['files'] = new Map();
  const add = (name: string, bytes: Uint8Array<ArrayBuffer>): FileEntry => {
    files.set(name, bytes);
    return { name, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  };
  const tensors = storedTensors(tensorSpecs(layout), layout.maxTensorBytes);
  const shards = assignShards(tensors, heads ? 2 ** 20 : 10_000).map((group, i) =>
    add(shardName(i), shardBytes(group, layout.config.hiddenSize, options.seed ?? 1)),
  );
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const tokenizerFiles = [
    add('tokenizer.json', json(tokenizer.tokenizer)),
    add('tokenizer_config.json', json(tokenizer.tokenizerConfig)),
    ...(options.ballastBytes ? [add('ballast.bin', new Uint8Array(randomBytes(options.ballastBytes)))] : []),
  ];
  const manifest = { ...layout, shards, tokenizerFiles };
  files.set('manifest.json', json(manifest));
  return { manifest: parseManifest(JSON.parse(JSON.stringify(manifest)), 'manifest.json'), files };
}

function shardBytes(
  group: readonly StoredTensor[],
  hiddenSize: number,
  seed: number,
): Uint8Array<ArrayBuffer> {
  const header = buildSafetensorsHeader(
    group.map(({ name, tensor, rows }) => ({
      name,
      dtype: tensor.dtype,
      shape: [rows, ...tensor.shape.slice(1)],
    })),
  );
  const parts = [header, ...group.map((stored) => tensorContent(stored, hiddenSize, seed))];
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

function tensorContent(stored: StoredTensor, hiddenSize: number, seed: number): Uint8Array {
  const { name, dtype, shape } = stored.tensor;
  const count = shape.slice(1).reduce((product, size) => product * size, stored.rows);
  const next = numbers(`${seed}${stored.name}`);
  const uniform = (center: number, spread: number) =>
    Float32Array.from({ length: count }, () => center + spread * (2 * next() - 1));
  const bytesOf = ({ buffer }: { readonly buffer: ArrayBufferLike }) => new Uint8Array(buffer);
  if (name.endsWith('.gather')) return bytesOf(Uint32Array.from({ length: count }, (_, k) => k % hiddenSize));
  if (dtype === 'U32') return bytesOf(Uint32Array.from({ length: count }, () => next() * 2 ** 32));
  if (name.endsWith('.mult')) return bytesOf(uniform(2.5, 0.5));
  if (name.endsWith('.scale')) return bytesOf(uniform(0.01, 0.002));
  if (name.endsWith('norm.weight')) return bytesOf(uniform(1, 0.2));
  return bytesOf(new Uint16Array(f32ToF16Bits(uniform(0, 0.5))));
}

/** Uniform numbers in [0, 1) from an LCG seeded by a text. */
function numbers(seed: string): () => number {
  let state = createHash('sha256').update(seed).digest().readUInt32LE();
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
