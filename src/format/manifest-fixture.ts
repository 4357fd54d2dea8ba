/** A small valid manifest for tests, and its shards. */
import type { LlamaConfig } from './config';
import type { LayerSpec, Manifest } from './manifest';
import { buildSafetensorsHeader } from './safetensors';
import { type SchemeName, schemeModes } from './scheme';
import { assignShards, shardName } from './shards';
import { type StoredTensor, storedTensors, tensorSpecs } from './tensors';
import type { WeightGrid } from './weight-grid';

export const tinyConfig: LlamaConfig = {
  hiddenSize: 64,
  intermediateSize: 172,
  numLayers: 2,
  numHeads: 8,
  numKvHeads: 2,
  headDim: 8,
  vocabSize: 512,
  maxPositionEmbeddings: 128,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  tieWordEmbeddings: false,
  attentionBias: false,
  mlpBias: false,
  bosTokenId: 1,
  eosTokenIds: [2],
};

const dynamicLayer: LayerSpec = {
  attnInputs: 64,
  mlpInputs: 64,
  attnOffsets: false,
  mlpOffsets: false,
  attnAct: 0.9,
  oAct: 0.8,
  mlpAct: 0.9,
  downAct: 0.7,
};
const mergedLayer: LayerSpec = { ...dynamicLayer, attnInputs: 96, attnAct: 1, mlpAct: 1 };

/** What a manifest stands for besides the sizes of its shards. */
export function tinyLayout(
  scheme: SchemeName,
  weightGrid: WeightGrid | null = null,
): Omit<Manifest, 'shards'> {
  const merged = schemeModes[scheme].norm === 'static';
  const layer = merged ? mergedLayer : dynamicLayer;
  return {
    format: 'mergequant',
    version: weightGrid ? 2 : 1,
    name: 'tiny',
    config: tinyConfig,
    scheme,
    quant:
      scheme === 'fp16'
        ? null
        : {
            actBits: 4,
            weightBits: weightGrid ? 3 : 4,
            weightGrid,
            reconstruct: merged ? 'pad' : 'none',
            alpha: merged ? 5 : null,
            hadamard: null,
            layers: [layer, layer],
          },
    denseDtype: 'F16',
    maxTensorBytes: 40_000,
    tokenizerFiles: [{ name: 'tokenizer.json', bytes: 10, sha256: 'a'.repeat(64) }],
    provenance: { tool: 'test' },
  };
}

/** Stored tensors dealt to shards of at most 60 kB. */
export function tinyShards(scheme: SchemeName, weightGrid: WeightGrid | null = null): StoredTensor[][] {
  const layout = tinyLayout(scheme, weightGrid);
  return assignShards(storedTensors(tensorSpecs(layout), layout.maxTensorBytes), 60_000);
}

/** The header of one of {@link tinyShards}. */
export function headerOf(shard: readonly StoredTensor[]): Uint8Array {
  return buildSafetensorsHeader(
    shard.map(({ name, rows, tensor }) => ({
      name,
      dtype: tensor.dtype,
      shape: [rows, ...tensor.shape.slice(1)],
    })),
  );
}

/** A valid manifest as JSON.parse would give it, free to be broken; with a grid: 3-bit weights. */
export function tinyManifest(
  scheme: SchemeName = 'mergequant',
  weightGrid: WeightGrid | null = null,
): Record<string, unknown> {
  const shards = tinyShards(scheme, weightGrid).map((shard, i) => ({
    name: shardName(i),
    bytes: headerOf(shard).length + shard.reduce((sum, tensor) => sum + tensor.bytes, 0),
    sha256: String(i).padStart(64, '0'),
  }));
  return JSON.parse(JSON.stringify({ ...tinyLayout(scheme, weightGrid), shards })) as Record<string, unknown>;
}
