/** The models that the panel offers: those that come with the page, and those that were loaded from elsewhere. */
import { signal } from '@preact/signals';
import { fetchCatalog } from '../state/catalog';
import { addedUrls, lastModelUrl } from '../state/preferences';

export interface PanelModel {
  readonly url: string;
  readonly name: string;
  /** null where only its manifest says. */
  readonly scheme: string | null;
}

export const models = signal<readonly PanelModel[]>([]);

/** Fills {@link models}. @throws CatalogError */
export async function findModels(): Promise<void> {
  const bundled = await fetchCatalog();
  const known = new Set(['', ...bundled.map(({ url }) => url)]);
  const others = new Set([...addedUrls.value, lastModelUrl.value].filter((url) => !known.has(url)));
  models.value = [...bundled, ...[...others].map((url) => ({ url, name: url, scheme: null }))];
}
