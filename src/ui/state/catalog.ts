/** The models that come with the page. */
import * as v from 'valibot';

const catalogSchema = v.object({
  models: v.pipe(
    v.array(
      v.object({
        id: v.string(),
        name: v.string(),
        path: v.string(),
        scheme: v.string(),
        actBits: v.optional(v.nullable(v.number())),
        bytes: v.number(),
      }),
    ),
    v.minLength(1),
  ),
});

export interface CatalogModel {
  readonly id: string;
  readonly name: string;
  readonly scheme: string;
  readonly bytes: number;
  /** The artifact folder. */
  readonly url: string;
}

/** The catalog could not be read; the page still loads models by address. */
export class CatalogError extends Error {
  override readonly name = 'CatalogError';
}

/** Reads `models/index.json` beside the page. @throws CatalogError */
export async function fetchCatalog(): Promise<CatalogModel[]> {
  const address = new URL('models/index.json', document.baseURI).href;
  let json: unknown;
  try {
    const response = await fetch(address);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    json = await response.json();
  } catch (cause) {
    throw new CatalogError('the list of bundled models (models/index.json) could not be loaded', { cause });
  }
  const parsed = v.safeParse(catalogSchema, json);
  if (!parsed.success) {
    throw new CatalogError(`models/index.json is not a list of models: ${parsed.issues[0].message}`);
  }
  return parsed.output.models.map(({ id, name, path, scheme, bytes }) => {
    const url = new URL(path.replace(/\/*$/, '/'), address).href;
    return { id, name, scheme, bytes, url };
  });
}
