/** What the model manager shows: every model this page knows of, what it takes, and whether it is on this device. */
import { computed, signal } from '@preact/signals';
import type { KvCacheChoice } from '../../format/kv-cache';
import type { Manifest } from '../../format/manifest';
import { chunkTokensFor, planMemory } from '../../format/memory-plan';
import { bytesText } from '../../gpu/bytes-text';
import { isSoftware } from '../../gpu/gpu';
import { parseManifestText } from '../../storage/manifest-text';
import { catalog, deleteStored, otherModels, refreshStored, storedModels } from './model';
import { addedUrls, kvCache, lastModelUrl, persistentDecode } from './preferences';

/** Sizes that this browser lets the GPU bind at once. */
export interface GpuLimits {
  readonly maxStorageBufferBindingSize: number;
  readonly maxBufferSize: number;
  /** The adapter computes on the CPU, where the engine plans shorter passes. */
  readonly software: boolean;
}

export interface LibraryModel {
  readonly url: string;
  readonly name: string;
  readonly source: 'bundled' | 'added' | 'dropped';
  /** null until its manifest was read. */
  readonly bytes: number | null;
  readonly stored: 'no' | 'partly' | 'yes';
  readonly storedBytes: number;
}

/** What a model needs of the GPU, held against what there is. */
export interface ModelFit {
  readonly scheme: string;
  readonly downloadBytes: number;
  readonly gpuBytes: number;
  readonly contextLength: number;
  /** null when the GPU's limits are not known. */
  readonly fits: boolean | null;
  readonly problem: string | null;
}

export const gpuLimits = signal<GpuLimits | null>(null);
export const storageEstimate = signal<{ readonly usedBytes: number; readonly persistent: boolean } | null>(
  null,
);
/** By address; a string is why one cannot be read. */
const manifests = signal<ReadonlyMap<string, Manifest | string>>(new Map());

/** By address; a string is why the manifest cannot be read. */
export const fits = computed<ReadonlyMap<string, ModelFit | string>>(() => {
  const entries = [...manifests.value].map(([url, manifest]) => {
    const fit =
      typeof manifest === 'string'
        ? manifest
        : fitOf(manifest, gpuLimits.value, kvCache.value, persistentDecode.value);
    return [url, fit] as const;
  });
  return new Map(entries);
});

/** Folders that were dropped on the page live under this path, where no server has anything. */
export const droppedPath = 'dropped-models/';

export const libraryModels = computed<readonly LibraryModel[]>(() => {
  const storedByUrl = new Map(storedModels.value.map((model) => [model.url, model]));
  const storage = (url: string) => {
    const entry = storedByUrl.get(url);
    const stored = entry?.complete
      ? ('yes' as const)
      : entry?.storedBytes
        ? ('partly' as const)
        : ('no' as const);
    return { stored, storedBytes: entry?.storedBytes ?? 0 };
  };
  const bundled = catalog.value.map(({ url, name, bytes }): LibraryModel => {
    return { url, name, bytes, source: 'bundled', ...storage(url) };
  });
  const otherUrls = new Set([...otherModels.value.map(({ url }) => url), ...addedUrls.value]);
  const others = [...otherUrls].map((url): LibraryModel => {
    const fit = fits.value.get(url);
    const bytes = typeof fit === 'object' ? fit.downloadBytes : null;
    const source = url.includes(`/${droppedPath}`) ? 'dropped' : 'added';
    return { url, name: storedByUrl.get(url)?.name ?? url, bytes, source, ...storage(url) };
  });
  return [...bundled, ...others];
});

/** Reads limits, storage and the manifests that were not read yet. */
export async function refreshLibrary(): Promise<void> {
  await Promise.all([readLimits(), readStorage(), refreshStored()]);
  await Promise.all(libraryModels.value.map(({ url }) => readManifest(url)));
}

/** Forgets a model and frees what it takes on this device. */
export async function forgetModel(url: string): Promise<void> {
  addedUrls.value = addedUrls.value.filter((added) => added !== url);
  if (lastModelUrl.value === url) lastModelUrl.value = '';
  await deleteStored(url);
  await readStorage();
}

async function readLimits(): Promise<void> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    gpuLimits.value = null;
    return;
  }
  const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  gpuLimits.value = { maxStorageBufferBindingSize, maxBufferSize, software: isSoftware(adapter.info) };
}

async function readStorage(): Promise<void> {
  try {
    const [{ usage = 0 }, persistent] = await Promise.all([
      navigator.storage.estimate(),
      navigator.storage.persisted(),
    ]);
    storageEstimate.value = { usedBytes: usage, persistent };
  } catch {
    storageEstimate.value = null; // storage is forbidden
  }
}

async function readManifest(url: string): Promise<void> {
  if (typeof manifests.value.get(url) === 'object' || url.includes(`/${droppedPath}`)) return;
  let manifest: Manifest | string;
  try {
    const response = await fetch(new URL('manifest.json', url), { cache: 'no-cache' });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    manifest = parseManifestText(await response.text());
  } catch (error) {
    manifest = error instanceof Error ? error.message : String(error);
  }
  manifests.value = new Map(manifests.value).set(url, manifest);
}

/** Holds a model against `limits`, with its weights split as the engine splits them. */
function fitOf(
  manifest: Manifest,
  limits: GpuLimits | null,
  cache: KvCacheChoice,
  persistent: boolean,
): ModelFit {
  const { config, scheme, quant } = manifest;
  const contextLength = config.maxPositionEmbeddings;
  const mostBytes = limits && Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const plan = planMemory({
    ...manifest,
    contextLength,
    kvCache: cache,
    persistentDecode: persistent,
    chunkTokens: Math.min(chunkTokensFor(mostBytes ?? 0, limits?.software ?? false), contextLength),
    ...(mostBytes ? { bindingBytes: mostBytes } : {}),
  });
  const { label, bytes } = plan.largestBinding;
  const problem =
    mostBytes !== null && bytes > mostBytes
      ? `${label} takes ${bytesText(bytes)}, this GPU binds ${bytesText(mostBytes)} at once`
      : null;
  return {
    scheme: quant ? `${scheme}, W${quant.weightBits}A${quant.actBits}` : scheme,
    downloadBytes: [...manifest.shards, ...manifest.tokenizerFiles].reduce(
      (sum, file) => sum + file.bytes,
      0,
    ),
    gpuBytes: plan.gpuBytes,
    contextLength,
    fits: mostBytes === null ? null : problem === null,
    problem,
  };
}
