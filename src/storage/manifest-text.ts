/** A manifest.json as text from a server or from the browser's storage. */
import { ManifestError, shown } from '../format/errors';
import type { Manifest } from '../format/manifest';
import { parseManifest } from '../format/parse-manifest';

/** @throws ManifestError */
export function parseManifestText(text: string): Manifest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ManifestError({ file: 'manifest.json', where: '', expected: 'JSON', found: shown(text, 40) });
  }
  return parseManifest(json, 'manifest.json');
}
