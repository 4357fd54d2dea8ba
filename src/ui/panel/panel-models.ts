/** The models that the panel offers: those that come with the page, and the one chatted with last. */
import { signal } from '@preact/signals';
import { fetchCatalog } from '../state/catalog';
import { lastModelUrl } from '../state/preferences';

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
  const last = lastModelUrl.value;
  const other = last === '' || bundled.some(({ url }) => url === last);
  models.value = other ? bundled : [...bundled, { url: last, name: last, scheme: null }];
}
