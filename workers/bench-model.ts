/** Artifacts for the panel: loaded through a store of their own, so that measuring a first visit deletes nobody's model. */
import { createStore, del, get, keys, set } from 'idb-keyval';
import type { ModelSource } from '../bench/suites/artifact';
import { meanClipRatios } from '../src/format/clip-ratios';
import { parseSafetensorsHeader } from '../src/format/safetensors';
import { WeightsLoader } from '../src/model/weights-loader';
import { networkTiming } from '../src/storage/download';
import { loadArtifact } from '../src/storage/load-artifact';
import { type OpenArtifact, openArtifact, type StorageEnvironment } from '../src/storage/open-artifact';
import type { StoredModel } from '../src/storage/stores';
import { noTurns } from '../src/storage/turns';
import type { ArtifactInsight, SiteScales } from './bench-protocol';

function benchStorage(): StorageEnvironment {
  const shards = createStore('mergequant-bench', 'shards');
  const models = new Map<string, StoredModel>();
  return {
    network: { fetch: (input, init) => fetch(input, init), ...networkTiming },
    shards: {
      get: (sha256) => get<ArrayBuffer>(sha256, shards),
      put: (sha256, bytes) => set(sha256, bytes, shards),
      has: async (sha256) => (await keys<string>(shards)).includes(sha256),
      delete: (sha256) => del(sha256, shards),
      list: () => keys<string>(shards),
    },
    models: {
      get: async (url) => models.get(url),
      put: async (model) => void models.set(model.url, model),
      delete: async (url) => void models.delete(url),
      list: async () => [...models.values()],
    },
    turns: noTurns,
    now: () => Date.now(),
  };
}

/** The artifact at `url`, loaded as the chat page loads it. @throws DownloadError, ManifestError */
export async function urlSource(url: string): Promise<ModelSource> {
  const storage = benchStorage();
  const artifact = await openArtifact(url, storage);
  const { shards, tokenizerFiles, name } = artifact.manifest;
  return {
    name,
    bytes: [...shards, ...tokenizerFiles].reduce((sum, file) => sum + file.bytes, 0),
    forget: async () => {
      for (const key of await storage.shards.list()) await storage.shards.delete(key);
    },
    load: async (gpu, signal) => {
      const loader = WeightsLoader.create(gpu, artifact.manifest);
      try {
        const sink = {
          tensor: loader.write.bind(loader),
          shardDone: async () => void (await gpu.device.queue.onSubmittedWorkDone()),
        };
        await loadArtifact(artifact, sink, storage, signal ? { signal } : {});
        return await loader.finish();
      } catch (error) {
        loader.destroy();
        throw error;
      }
    },
  };
}

/** More than the header of a shard of 64 MiB takes. */
const headerBytes = 2 ** 18;

/** Bytes `begin` to `end` of a file; a server that knows no ranges sends it whole. */
async function fetchRange(url: string, begin: number, end: number): Promise<ArrayBuffer> {
  const response = await fetch(url, { headers: { Range: `bytes=${begin}-${end - 1}` } });
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
  const bytes = await response.arrayBuffer();
  return response.status === 206 ? bytes : bytes.slice(begin, end);
}

/** The steps that are merged into an artifact's norms, read from its shards without loading the rest of them. */
export async function inspectArtifact(address: string): Promise<ArtifactInsight> {
  const artifact = await openArtifact(address, benchStorage());
  const { name, scheme, quant, config, provenance } = artifact.manifest;
  const tensors = await readNormTensors(artifact);
  const sites: SiteScales[] = [];
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const site of ['attn', 'mlp'] as const) {
      const mult = tensors.get(`layers.${layer}.${site}_norm.mult`);
      const gather = tensors.get(`layers.${layer}.${site}_norm.gather`);
      if (mult && gather) sites.push({ layer, site, ...siteScales(mult, gather, config.hiddenSize) });
    }
  }
  return {
    ...{ name, scheme, alpha: quant?.alpha ?? null, hiddenSize: config.hiddenSize, sites },
    clips: meanClipRatios(provenance, config.numLayers),
    ratios: (quant?.layers ?? []).map(({ oAct, downAct }) => ({ o: oAct, down: downAct })),
  };
}

async function readNormTensors({ manifest, url }: OpenArtifact): Promise<Map<string, ArrayBuffer>> {
  const found = new Map<string, ArrayBuffer>();
  for (const shard of manifest.shards) {
    const address = new URL(encodeURIComponent(shard.name), url).href;
    const prefix = new Uint8Array(await fetchRange(address, 0, Math.min(headerBytes, shard.bytes)));
    const header = parseSafetensorsHeader(prefix, shard.bytes, shard.name);
    for (const { name, begin, end } of header.tensors) {
      if (/_norm\.(mult|gather)$/.test(name)) found.set(name, await fetchRange(address, begin, end));
    }
  }
  return found;
}

/** Padding columns have multiplier 0 and belong to no channel. */
function siteScales(
  multBytes: ArrayBuffer,
  gatherBytes: ArrayBuffer,
  hiddenSize: number,
): Pick<SiteScales, 'steps' | 'columns'> {
  const mult = new Float32Array(multBytes);
  const gather = new Uint32Array(gatherBytes);
  const steps = new Array<number>(hiddenSize).fill(0);
  const columns = new Array<number>(hiddenSize).fill(0);
  mult.forEach((value, k) => {
    if (value === 0) return;
    const channel = gather[k]!;
    steps[channel] = 1 / Math.abs(value);
    columns[channel]!++;
  });
  return { steps, columns };
}
