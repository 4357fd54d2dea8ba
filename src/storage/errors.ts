/** What can go wrong between a server, the browser's storage and the engine. */

/** A file could not be fetched: unreachable, refused, or answered with something that is no file. */
export class DownloadError extends Error {
  override readonly name = 'DownloadError';
  constructor(
    readonly file: string,
    readonly url: string,
    readonly reason: string,
    /** Trying again may help (network trouble, overloaded server). */
    readonly transient: boolean,
    options?: ErrorOptions,
  ) {
    super(`cannot download ${file}: ${reason} (${url})`, options);
  }
}

/** A file's bytes are not the ones the manifest promises. */
export class IntegrityError extends Error {
  override readonly name = 'IntegrityError';
  constructor(
    readonly file: string,
    readonly what: 'length' | 'SHA-256',
    readonly expected: string,
    readonly found: string,
  ) {
    super(`${file}: wrong ${what}: expected ${expected}, found ${found}`);
  }
}

/** An address that names no artifact folder. */
export class ArtifactUrlError extends Error {
  override readonly name = 'ArtifactUrlError';
  constructor(
    readonly url: string,
    reason: string,
  ) {
    super(`"${url}" is not the address of a model folder: ${reason}`);
  }
}

/** A folder from this computer that is no artifact, or lacks a file. */
export class FolderError extends Error {
  override readonly name = 'FolderError';
}
