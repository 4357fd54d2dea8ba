/** Which model is chosen, which one is loaded, and how far loading is. */
import { batch, computed, signal } from '@preact/signals';
import type { GpuReport, LoadProgress, ModelInfo, StoredModelInfo } from '../../../workers/protocol';
import { EngineClient } from '../../api/client';
import { formatBytes } from '../format';
import { type CatalogModel, fetchCatalog } from './catalog';
import { LoadRate } from './load-rate';
import { addedUrls, kvCache, lastModelUrl, persistentDecode } from './preferences';
import { Recovery, suggestedContext } from './recovery';
import { recommend } from './settings';
import { askToPersist, readStorageSpace, storageSpace } from './storage-space';

export type ModelState =
  | { readonly kind: 'starting' }
  | { readonly kind: 'unavailable'; readonly report: Extract<GpuReport, { available: false }> }
  | { readonly kind: 'idle' }
  | { readonly kind: 'loading'; readonly progress: LoadProgress }
  /** `refused`: why another model was not taken in its place. */
  | { readonly kind: 'ready'; readonly info: ModelInfo; readonly refused: LoadProblem | null }
  | { readonly kind: 'failed'; readonly problem: LoadProblem };

/** Why a model was not loaded. */
export interface LoadProblem {
  readonly message: string;
  /** A context that may fit where the one asked for did not; null otherwise. */
  readonly shorterContext: number | null;
}

/** The choice in the model list that stands for an address typed by hand. */
export const byUrl = 'url';

export const client = new EngineClient({ onFailure: (error) => recover(error) });
const recovery = new Recovery();

export const modelState = signal<ModelState>({ kind: 'starting' });
export const catalog = signal<readonly CatalogModel[]>([]);
export const selectedId = signal('');
export const typedUrl = signal('');
export const storedModels = signal<readonly StoredModelInfo[]>([]);

export const loadedModel = computed(() => (modelState.value.kind === 'ready' ? modelState.value.info : null));
/** What the page has to say about the last load; null when it went well. */
export const loadProblem = computed(() => {
  const state = modelState.value;
  if (state.kind === 'failed') return state.problem;
  return state.kind === 'ready' ? state.refused : null;
});
/** The loaded model comes with the page: what the page says about the demo is true of it. */
export const isDemo = computed(
  () => loadedModel.value === null || catalog.value.some(({ url }) => url === loadedModel.value?.url),
);

/** Address of the model that is loaded or on its way. */
const presentUrl = signal('');

/** The chosen model is not the present one: there is something to load. */
export const selectionDiffers = computed(() => selectedUrl.value !== presentUrl.value);

const selectedUrl = computed(() => {
  if (selectedId.value === byUrl) return typedUrl.value;
  return catalog.value.find(({ id }) => id === selectedId.value)?.url ?? selectedId.value;
});

/** Models that came from elsewhere than the page and are stored; their addresses are their ids in the list. */
export const otherModels = computed(() =>
  storedModels.value.filter(({ url }) => catalog.value.every((model) => model.url !== url)),
);

/** Bytes a second of the running download; null when there is none, or it has only begun. */
export const loadBytesPerSecond = signal<number | null>(null);

/** The status line: `ready` exactly when the page can chat. */
export const statusText = computed(() => {
  switch (modelState.value.kind) {
    case 'starting':
      return 'starting';
    case 'loading':
      return 'loading';
    case 'unavailable':
      return 'WebGPU is not available';
    case 'idle':
      return 'no model loaded';
    case 'ready':
      return 'ready';
    case 'failed':
      return 'error';
  }
});

/** What loading is at, in words. */
export function progressText({ phase, doneBytes, totalBytes }: LoadProgress): string {
  switch (phase) {
    case 'manifest':
      return 'Looking for the model';
    case 'download':
      return `Downloading ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
    case 'verify':
      return 'Checking files';
    case 'follow':
      return `Another tab downloads this model: ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
    case 'paused':
      return `Paused at ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
    case 'upload':
      return 'Moving weights to the GPU';
    case 'compile':
      return 'Preparing the GPU';
    case 'self-test':
      return 'Checking the GPU’s results';
  }
}

/** Counts loads: what an overtaken one reports is ignored. */
let loadNumber = 0;

/** The model that the worker holds on to until it has read the next one's manifest. */
let held: ModelInfo | null = null;

/** Checks for WebGPU, reads the catalog and loads the model of the last visit, or else the catalog's first. */
export async function start(): Promise<void> {
  try {
    const report = await client.probe();
    if (!report.available) {
      modelState.value = { kind: 'unavailable', report };
      return;
    }
    catalog.value = await fetchCatalog();
    await refreshStored();
    selectedId.value = knownId(lastModelUrl.value) ?? catalog.value[0]!.id;
  } catch (error) {
    selectedId.value = byUrl;
    fail(error);
    return;
  }
  await loadSelected();
}

/** The list's entry for a model that is bundled or stored. */
function knownId(url: string): string | undefined {
  const bundled = catalog.value.find((model) => model.url === url)?.id;
  return bundled ?? otherModels.value.find((model) => model.url === url && model.complete)?.url;
}

/** Loads the model at `url`, wherever it comes from. */
export async function loadUrl(url: string): Promise<void> {
  batch(() => {
    const id = knownId(url);
    selectedId.value = id ?? byUrl;
    if (id === undefined) typedUrl.value = url;
  });
  await loadSelected();
}

/** Loads the present model again, if there is one, with what the preferences say now. */
export async function reload(): Promise<void> {
  if (presentUrl.value !== '') await loadUrl(presentUrl.value);
}

/** Loads the chosen model in place of the present one. */
export async function loadSelected(contextLength?: number): Promise<void> {
  const number = ++loadNumber;
  const current = () => number === loadNumber;
  const url = selectedUrl.value;
  const rate = new LoadRate();
  held = loadedModel.value ?? held;
  batch(() => {
    presentUrl.value = url;
    loadBytesPerSecond.value = null;
    storageSpace.value = null;
    modelState.value = { kind: 'loading', progress: { phase: 'manifest', doneBytes: 0, totalBytes: 0 } };
  });
  try {
    const preferred = { kvCache: kvCache.value, persistentDecode: persistentDecode.value };
    const request = { url, ...preferred, ...(contextLength ? { contextLength } : {}) };
    const info = await client.load(request, (progress) => {
      if (!current() || modelState.value.kind !== 'loading') return;
      if (progress.phase !== 'manifest') held = null;
      noteSpace(progress);
      batch(() => {
        modelState.value = { kind: 'loading', progress };
        const measured =
          progress.phase === 'download' ? rate.add(performance.now(), progress.doneBytes) : null;
        loadBytesPerSecond.value = measured;
      });
    });
    if (!current()) return;
    batch(() => {
      modelState.value = { kind: 'ready', info, refused: null };
      recommend(info.samplingDefaults);
    });
    await Promise.all([askToPersist(), refreshStored()]);
    rememberLoaded(info.url);
  } catch (error) {
    if (!current()) return;
    const cancelled = error instanceof Error && error.name === 'AbortError';
    if (held) stay(held, cancelled ? null : problemOf(error));
    else if (cancelled) leave({ kind: 'idle' });
    else fail(error);
  }
}

/** The next visit begins with this model; one of another address stays in the list. */
function rememberLoaded(url: string): void {
  batch(() => {
    presentUrl.value = url; // as the engine wrote it, with a trailing slash
    lastModelUrl.value = url;
    const bundled = catalog.value.some((model) => model.url === url);
    if (bundled) return;
    if (!addedUrls.value.includes(url)) addedUrls.value = [...addedUrls.value, url];
    selectedId.value = knownId(url) ?? selectedId.value;
    if (selectedId.value === byUrl) typedUrl.value = url;
  });
}

export function pauseLoad(): void {
  client.pause().catch(fail);
}

export function resumeLoad(): void {
  client.resume().catch(fail);
}

export function cancelLoad(): void {
  client.cancel().catch(fail);
}

export async function refreshStored(): Promise<void> {
  storedModels.value = await client.listStored().catch(() => []);
}

export async function deleteStored(url: string): Promise<void> {
  await client.deleteStored(url);
  await refreshStored();
  if (selectedId.value === url) selectedId.value = catalog.value[0]?.id ?? byUrl;
}

function problemOf(error: unknown): LoadProblem {
  const message = error instanceof Error ? error.message : String(error);
  const words = message.charAt(0).toUpperCase() + message.slice(1);
  return { message: words, shorterContext: suggestedContext(error) };
}

/** Goes on with the model that was there before. */
function stay(info: ModelInfo, refused: LoadProblem | null): void {
  batch(() => {
    presentUrl.value = info.url;
    modelState.value = { kind: 'ready', info, refused };
  });
}

/** Has read why another model was refused: the list shows the loaded one again. */
export function dismissRefusal(): void {
  const loaded = loadedModel.value;
  if (!loaded) return;
  batch(() => {
    stay(loaded, null);
    selectedId.value = knownId(loaded.url) ?? selectedId.value;
  });
}

/** Any state but `ready` takes the model away: after a failure it is gone from the GPU. */
function fail(error: unknown): void {
  leave({ kind: 'failed', problem: problemOf(error) });
}

/** A GPU or worker that failed under a loaded model: the model is loaded again, once, from what is stored. */
function recover(error: Error): void {
  const loaded = loadedModel.value;
  const again = loaded && recovery.shouldReload(error, performance.now());
  fail(
    again || !loaded ? error : new Error(`${error.message}. It fails again and again: restart the browser`),
  );
  if (again) loadUrl(loaded.url).catch(fail);
}

function leave(state: ModelState): void {
  held = null;
  batch(() => {
    presentUrl.value = '';
    modelState.value = state;
  });
}

/** Before the first byte of a download: what it needs, and the request to keep it. */
function noteSpace({ phase, missingBytes = 0 }: LoadProgress): void {
  if (phase !== 'download' || missingBytes === storageSpace.value?.neededBytes) return;
  readStorageSpace(missingBytes).catch(fail);
  askToPersist().catch(fail);
}
