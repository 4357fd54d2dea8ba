/** Which model is chosen, which one is loaded, and how far loading is. */
import { batch, computed, signal } from '@preact/signals';
import type { GpuReport, LoadProgress, ModelInfo, StoredModelInfo } from '../../../workers/protocol';
import { EngineClient } from '../../api/client';
import { formatBytes } from '../format';
import { type CatalogModel, fetchCatalog } from './catalog';
import { recommend } from './settings';

export type ModelState =
  | { readonly kind: 'starting' }
  | { readonly kind: 'unavailable'; readonly report: Extract<GpuReport, { available: false }> }
  | { readonly kind: 'idle' }
  | { readonly kind: 'loading'; readonly progress: LoadProgress }
  | { readonly kind: 'ready'; readonly info: ModelInfo }
  | { readonly kind: 'failed'; readonly message: string };

/** The choice in the model list that stands for an address typed by hand. */
export const byUrl = 'url';

export const client = new EngineClient({ onFailure: (error) => fail(error) });

export const modelState = signal<ModelState>({ kind: 'starting' });
export const catalog = signal<readonly CatalogModel[]>([]);
export const selectedId = signal('');
export const typedUrl = signal('');
export const storedModels = signal<readonly StoredModelInfo[]>([]);

export const loadedModel = computed(() => (modelState.value.kind === 'ready' ? modelState.value.info : null));
/** The loaded model comes with the page: what the page says about the demo is true of it. */
export const isDemo = computed(
  () => loadedModel.value === null || catalog.value.some(({ url }) => url === loadedModel.value?.url),
);

/** Address of the model that is loaded or on its way. */
const presentUrl = signal('');

/** The chosen model is not the present one: there is something to load. */
export const selectionDiffers = computed(() => selectedUrl.value !== presentUrl.value);

const selectedUrl = computed(() =>
  selectedId.value === byUrl
    ? typedUrl.value
    : (catalog.value.find(({ id }) => id === selectedId.value)?.url ?? ''),
);

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
    case 'upload':
      return 'Moving weights to the GPU';
    case 'compile':
      return 'Preparing the GPU';
  }
}

/** Counts loads: what an overtaken one reports is ignored. */
let loadNumber = 0;

/** Checks for WebGPU, reads the catalog and loads its first model. */
export async function start(): Promise<void> {
  try {
    const report = await client.probe();
    if (!report.available) {
      modelState.value = { kind: 'unavailable', report };
      return;
    }
    catalog.value = await fetchCatalog();
    selectedId.value = catalog.value[0]!.id;
  } catch (error) {
    selectedId.value = byUrl;
    fail(error);
    return;
  }
  await loadSelected();
}

/** Loads the chosen model in place of the present one. */
export async function loadSelected(): Promise<void> {
  const number = ++loadNumber;
  const current = () => number === loadNumber;
  const url = selectedUrl.value;
  batch(() => {
    presentUrl.value = url;
    modelState.value = { kind: 'loading', progress: { phase: 'manifest', doneBytes: 0, totalBytes: 0 } };
  });
  try {
    const info = await client.load({ url }, (progress) => {
      if (current() && modelState.value.kind === 'loading') modelState.value = { kind: 'loading', progress };
    });
    if (!current()) return;
    batch(() => {
      modelState.value = { kind: 'ready', info };
      recommend(info.samplingDefaults);
    });
    await Promise.all([askToPersist(), refreshStored()]);
  } catch (error) {
    if (!current()) return;
    if (error instanceof Error && error.name === 'AbortError') leave({ kind: 'idle' });
    else fail(error);
  }
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
}

/** Any state but `ready` takes the model away: after a failure it is gone from the GPU. */
function fail(error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  leave({ kind: 'failed', message: message.charAt(0).toUpperCase() + message.slice(1) });
}

function leave(state: ModelState): void {
  batch(() => {
    presentUrl.value = '';
    modelState.value = state;
  });
}

let askedToPersist = false;

/** Asks the browser, once, not to evict the stored models. It may refuse; nothing depends on it. */
async function askToPersist(): Promise<void> {
  if (askedToPersist) return;
  askedToPersist = true;
  try {
    if (!(await navigator.storage.persisted())) await navigator.storage.persist();
  } catch {
    // Storage may be forbidden altogether; loading has reported that already.
  }
}
