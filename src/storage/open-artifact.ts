/** Finds an artifact: its manifest from the network, or, when that cannot be reached, the one of an earlier visit. */
import type { Manifest } from '../format/manifest';
import { fetchFile, type Network } from './download';
import { ArtifactUrlError, DownloadError } from './errors';
import { parseManifestText } from './manifest-text';
import type { ModelList, ShardStore } from './stores';
import type { Turns } from './turns';

/** Everything outside this room. */
export interface StorageEnvironment {
  readonly network: Network;
  readonly shards: ShardStore;
  readonly models: ModelList;
  /** Between tabs. */
  readonly turns: Turns;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export interface OpenArtifact {
  /** The artifact folder, with a trailing slash. */
  readonly url: string;
  readonly manifest: Manifest;
  readonly manifestText: string;
  /** `store` when the network had no manifest and an earlier visit's is used. */
  readonly source: 'network' | 'store';
}

/** A manifest is small; one that is not here by then counts as unreachable. */
const manifestTimeoutMs = 20_000;

/**
 * The folder's address with a trailing slash; the address of its manifest.json is accepted, too.
 * @throws ArtifactUrlError
 */
export function artifactUrl(address: string): string {
  if (address.trim() === '') throw new ArtifactUrlError(address, 'it is empty');
  let url: URL;
  try {
    url = new URL(address.trim());
  } catch {
    throw new ArtifactUrlError(address, 'it should look like https://example.org/models/my-model/');
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new ArtifactUrlError(address, `it should start with https:// or http://, not ${url.protocol}`);
  }
  url.hash = '';
  url.search = '';
  url.pathname = url.pathname.replace(/\/manifest\.json$/, '/').replace(/\/*$/, '/');
  return url.href;
}

/**
 * Fetches and validates the manifest of the artifact at `address`.
 * @throws ArtifactUrlError, DownloadError, ManifestError
 */
export async function openArtifact(
  address: string,
  environment: StorageEnvironment,
  signal?: AbortSignal,
): Promise<OpenArtifact> {
  const url = artifactUrl(address);
  try {
    const manifestText = await fetchManifest(url, environment.network, signal);
    return { url, manifest: parseManifestText(manifestText), manifestText, source: 'network' };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof DownloadError)) throw error;
    const stored = await environment.models.get(url).catch(() => undefined);
    if (!stored?.complete) throw error;
    const { manifestText } = stored;
    return { url, manifest: parseManifestText(manifestText), manifestText, source: 'store' };
  }
}

async function fetchManifest(url: string, network: Network, signal?: AbortSignal): Promise<string> {
  const timeout = AbortSignal.timeout(manifestTimeoutMs);
  const combined = signal ? AbortSignal.any([signal, timeout]) : timeout;
  const address = new URL('manifest.json', url).href;
  const response = await fetchFile('manifest.json', address, network, {
    cache: 'no-cache',
    signal: combined,
  });
  try {
    return await response.text();
  } catch (cause) {
    throw new DownloadError('manifest.json', address, 'the connection broke', true, { cause });
  }
}
