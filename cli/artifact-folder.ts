/** Reads an artifact from a folder on disk. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ManifestError } from '../src/format/errors';
import type { Manifest } from '../src/format/manifest';
import { parseManifest } from '../src/format/parse-manifest';

/** @throws ManifestError if the file cannot be read, with the system's reason */
export async function readArtifactFile(folder: string, name: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await readFile(join(folder, name)));
  } catch (error) {
    const found = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : String(error);
    throw new ManifestError({
      file: join(folder, name),
      where: '',
      expected: 'a file that can be read',
      found,
    });
  }
}

/** The validated manifest of the artifact in `folder`. @throws ManifestError */
export async function readManifest(folder: string): Promise<Manifest> {
  const file = join(folder, 'manifest.json');
  const bytes = await readArtifactFile(folder, 'manifest.json');
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ManifestError({ file, where: '', expected: 'JSON in UTF-8', found: (error as Error).message });
  }
  return parseManifest(json, file);
}
