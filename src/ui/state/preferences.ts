/** What one visit leaves for the next, apart from conversations and models: a few words in the browser's storage. */
import { batch, computed, effect, type Signal, signal } from '@preact/signals';
import * as v from 'valibot';
import { kvCacheChoices } from '../../format/kv-cache';
import { overridesSchema } from './chat-records';
import type { Overrides } from './settings';

const prefix = 'mergequant.';

/** Looked up at each use: where storage is forbidden, looking throws. */
type FindStorage = () => Storage;
const betweenVisits: FindStorage = () => localStorage;
const inThisTab: FindStorage = () => sessionStorage;

/** A signal that keeps its value between visits, or reloads of one tab. What is stored and fits no schema is ignored. */
function kept<T>(
  name: string,
  schema: v.GenericSchema<unknown, T>,
  fallback: T,
  storage = betweenVisits,
): Signal<T> {
  const value = signal(read(storage, name, schema) ?? fallback);
  let first = true;
  effect(() => {
    const text = JSON.stringify(value.value);
    if (!first) write(storage, name, text);
    first = false;
  });
  return value;
}

function read<T>(storage: FindStorage, name: string, schema: v.GenericSchema<unknown, T>): T | undefined {
  try {
    const parsed = v.safeParse(schema, JSON.parse(storage().getItem(prefix + name) ?? 'null'));
    return parsed.success ? parsed.output : undefined;
  } catch {
    return undefined; // storage is forbidden, or holds something else
  }
}

function write(storage: FindStorage, name: string, text: string): void {
  try {
    storage().setItem(prefix + name, text);
  } catch {
    // Forbidden or full: the choice holds until the page closes.
  }
}

export const themes = ['system', 'light', 'dark'] as const;
export type Theme = (typeof themes)[number];

export const theme = kept<Theme>('theme', v.picklist(themes), 'system');

const wideWindow = globalThis.matchMedia?.('(min-width: 64rem)');
/** Whether the list of conversations has a place beside the chat; where it has none it covers the chat. */
export const sidebarHasPlace = signal(wideWindow?.matches ?? false);
const besideOpen = kept('sidebar', v.boolean(), true);
const coveringOpen = signal(false);
wideWindow?.addEventListener('change', ({ matches }) => {
  batch(() => {
    sidebarHasPlace.value = matches;
    coveringOpen.value = false; // a window made narrow shows the chat
  });
});

/** The list of conversations is shown: beside the chat as the last visit left it, over the chat only when asked for. */
export const sidebarOpen = computed(() => (sidebarHasPlace.value ? besideOpen.value : coveringOpen.value));

export function showSidebar(shown: boolean): void {
  (sidebarHasPlace.value ? besideOpen : coveringOpen).value = shown;
}

/** Settings of the last conversation: the next one begins with them. */
export const lastSettings = kept<Overrides>('settings', overridesSchema, {});

/** Address of the model that was loaded last. */
export const lastModelUrl = kept('model', v.string(), '');

/** How the models that this page loads keep keys and values of past tokens. */
export const kvCache = kept('kv-cache', v.picklist(kvCacheChoices), 'auto');

/** Whether the models that this page loads try to decode in one dispatch a token. */
export const persistentDecode = kept('persistent-decode', v.boolean(), false);

/** Models of other addresses than the page's own, as typed by hand. */
export const addedUrls = kept<string[]>('added-models', v.array(v.string()), []);

/** What is typed and not sent yet: a reload keeps it, and each tab has its own. */
export const draft = kept('draft', v.string(), '', inThisTab);

/** Shows the page in the chosen colours, now and after every change. */
export function applyTheme(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    const system = theme.value === 'system';
    for (const meta of document.querySelectorAll<HTMLMetaElement>('meta[name=theme-color]')) {
      const scheme = meta.dataset.scheme;
      meta.media = system ? `(prefers-color-scheme: ${scheme})` : scheme === theme.value ? 'all' : 'not all';
    }
  });
}
