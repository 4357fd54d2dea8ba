/**
 * Fetches one file of known length and hash: streamed, counted, hashed. A connection that breaks is taken up where it
 * broke, with HTTP Range, when the server names the file's version by a strong ETag, also by a later visit; otherwise the file
 * starts over.
 */
import pRetry from 'p-retry';
import { DownloadError, IntegrityError } from './errors';
import type { FileParts } from './parts';
import type { PauseGate } from './pause';
import { sha256Hex } from './sha256';

/** The outside world, replaceable in tests. */
export interface Network {
  readonly fetch: typeof fetch;
  /** Wait before the second attempt; each further wait is three times as long. */
  readonly retryMs: number;
  /** A connection that delivers nothing for this long counts as broken. There is no limit on the whole. */
  readonly idleMs: number;
}

export const networkTiming = { retryMs: 500, idleMs: 30_000 } as const;

export interface FileRequest {
  readonly url: string;
  /** The name shown in errors. */
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface DownloadOptions {
  readonly signal?: AbortSignal;
  readonly pause?: PauseGate;
  /** Keeps what has arrived between visits. */
  readonly parts?: FileParts;
  /** Bytes of the file received so far; falls back to 0 when an attempt starts over. */
  readonly onProgress?: (receivedBytes: number) => void;
  /** Called when the last byte is there and hashing starts. */
  readonly onVerify?: () => void;
}

/** Attempts in a row that may fail without bringing the file further. */
const maxRetries = 3;
/** A file whose hash is wrong is fetched once more: on the wire a bit flips once, on the server for good. */
const maxWrongHashes = 2;

/** What has arrived of a file. */
class Partial {
  readonly bytes: Uint8Array<ArrayBuffer>;
  received = 0;
  /** The strong ETag of the version that the bytes belong to; null when there is none to resume by. */
  validator: string | null = null;
  /** Most bytes that were ever here: an attempt that gets no further has not brought the file further. */
  farthest = 0;
  wrongHashes = 0;

  /** All of it came from an earlier visit: nothing is left to request. */
  restoredWhole = false;

  constructor(
    readonly request: FileRequest,
    readonly parts: FileParts | undefined,
  ) {
    this.bytes = new Uint8Array(request.bytes);
  }

  async restore(): Promise<void> {
    const restored = await this.parts?.restore(this.request.url, this.bytes);
    if (!restored) return;
    this.validator = restored.etag;
    this.received = restored.bytes;
    this.farthest = restored.bytes;
    this.restoredWhole = restored.bytes === this.request.bytes;
  }

  /** Keeps what has arrived, where a later visit could go on from it. */
  save(now = false): void {
    if (this.validator === null) return;
    const { url } = this.request;
    this.parts?.save({ url, etag: this.validator }, this.bytes, this.received, now);
  }

  restart(): void {
    if (this.received > 0) void this.parts?.drop(); // what is saved next waits for it
    this.received = 0;
    this.validator = null;
    this.restoredWhole = false;
  }
}

/**
 * Downloads one file of exactly `request.bytes` bytes whose SHA-256 is `request.sha256`.
 * @throws DownloadError unreachable, HTTP error, or a web page instead of a file
 * @throws IntegrityError wrong length or wrong hash, after every attempt
 * @throws the signal's reason when aborted
 */
export async function downloadFile(
  request: FileRequest,
  network: Network,
  options: DownloadOptions = {},
): Promise<ArrayBuffer> {
  const { signal } = options;
  signal?.throwIfAborted();
  const partial = new Partial(request, options.parts);
  await partial.restore();
  let before = 0;
  return pRetry(
    () => {
      before = partial.farthest;
      return attempt(partial, network, options);
    },
    {
      retries: maxRetries,
      minTimeout: network.retryMs,
      factor: 3,
      ...(signal ? { signal } : {}),
      shouldRetry: ({ error }) => !signal?.aborted && mayPass(error, partial),
      shouldConsumeRetry: () => partial.farthest <= before,
    },
  );
}

function mayPass(error: Error, partial: Partial): boolean {
  if (!(error instanceof IntegrityError)) return error instanceof DownloadError && error.transient;
  return error.what === 'length' || partial.wrongHashes < maxWrongHashes;
}

/** One attempt; being paused interrupts it without ending it. */
async function attempt(partial: Partial, network: Network, options: DownloadOptions): Promise<ArrayBuffer> {
  const { pause, signal } = options;
  for (;;) {
    await pause?.open(signal);
    if (partial.restoredWhole) break;
    try {
      await receive(partial, network, options);
      break;
    } catch (error) {
      signal?.throwIfAborted();
      if (!pause?.paused) throw error;
    }
  }
  options.onVerify?.();
  const { request, bytes } = partial;
  const found = await sha256Hex(bytes.buffer);
  if (found === request.sha256) return bytes.buffer;
  partial.restart();
  partial.wrongHashes++;
  throw new IntegrityError(request.name, 'SHA-256', request.sha256, found);
}

/** Requests what is missing and reads it. */
async function receive(partial: Partial, network: Network, options: DownloadOptions): Promise<void> {
  const { request } = partial;
  const guard = idleGuard(network.idleMs, [options.signal, options.pause?.closing]);
  try {
    const response = await requestRest(partial, network, guard.signal);
    options.onProgress?.(partial.received);
    await readBody(partial, response, () => {
      guard.alive();
      partial.save();
      options.onProgress?.(partial.received);
    });
  } finally {
    guard.stop();
    if (partial.received < request.bytes) partial.save(true);
  }
  // Chromium reports a body that ends early as complete: only counting tells.
  if (partial.received !== request.bytes) {
    const found = `${partial.received} bytes`;
    if (partial.validator === null) partial.restart();
    throw new IntegrityError(request.name, 'length', `${request.bytes} bytes`, found);
  }
}

/** The response to read on from `partial.received`: the rest of the same version, or the whole file. */
async function requestRest(partial: Partial, network: Network, signal: AbortSignal): Promise<Response> {
  const { name, url, bytes } = partial.request;
  // IndexedDB keeps the verified copy; a second one in the HTTP cache would only cost disk.
  const init: RequestInit = { cache: 'no-store', signal };
  if (partial.validator === null || partial.received === bytes) partial.restart();
  if (partial.received > 0) {
    // The version is compared here: If-Range would cost other origins a preflight request.
    const headers = { Range: `bytes=${partial.received}-` };
    const response = await network.fetch(url, { ...init, headers }).catch((cause) => {
      throw unreachable(name, url, cause);
    });
    if (isRest(response, partial)) return response;
    if (response.status === 200 && !isWebPage(response)) {
      partial.restart();
      partial.validator = strongValidator(response);
      return response;
    }
    await response.body?.cancel().catch(() => undefined);
    partial.restart();
  }
  const response = await fetchFile(name, url, network, init);
  partial.validator = strongValidator(response);
  return response;
}

/** A 206 that continues exactly here, in the same version of the file. */
function isRest(response: Response, { received, request, validator }: Partial): boolean {
  if (response.status !== 206 || strongValidator(response) !== validator) return false;
  const range = response.headers.get('content-range');
  return range === null || range === `bytes ${received}-${request.bytes - 1}/${request.bytes}`;
}

/** The ETag, unless it is weak, or the body is compressed, so that offsets would count other bytes. */
function strongValidator(response: Response): string | null {
  if (response.headers.has('content-encoding')) return null;
  const etag = response.headers.get('etag');
  return etag?.startsWith('"') ? etag : null;
}

async function readBody(partial: Partial, response: Response, onReceived: () => void): Promise<void> {
  const { request } = partial;
  const reader = response.body?.getReader();
  try {
    for (;;) {
      const chunk = await reader?.read();
      if (!chunk || chunk.done) return;
      if (partial.received + chunk.value.length > request.bytes) {
        await reader?.cancel();
        partial.restart();
        throw new IntegrityError(request.name, 'length', `${request.bytes} bytes`, 'more bytes than that');
      }
      partial.bytes.set(chunk.value, partial.received);
      partial.received += chunk.value.length;
      partial.farthest = Math.max(partial.farthest, partial.received);
      onReceived();
    }
  } catch (cause) {
    if (cause instanceof IntegrityError) throw cause;
    const reason = `the connection broke after ${partial.received} of ${request.bytes} bytes: ${messageOf(cause)}`;
    throw new DownloadError(request.name, request.url, reason, true, { cause });
  }
}

/** Aborts a fetch with one of `outer`, or when no byte comes for `idleMs`. */
function idleGuard(idleMs: number, outer: readonly (AbortSignal | undefined)[]) {
  const idle = new AbortController();
  const expire = () => idle.abort(new Error(`nothing received for ${idleMs / 1000} s`));
  let timer = setTimeout(expire, idleMs);
  return {
    signal: AbortSignal.any([idle.signal, ...outer.filter((signal) => signal !== undefined)]),
    alive: () => {
      clearTimeout(timer);
      timer = setTimeout(expire, idleMs);
    },
    stop: () => clearTimeout(timer),
  };
}

/** Fetches, and answers for everything that is no file: no connection, HTTP errors, web pages. @throws DownloadError */
export async function fetchFile(
  name: string,
  url: string,
  network: Pick<Network, 'fetch'>,
  init: RequestInit,
): Promise<Response> {
  let response: Response;
  try {
    response = await network.fetch(url, init);
  } catch (cause) {
    throw unreachable(name, url, cause);
  }
  if (!response.ok) {
    const transient = response.status >= 500 || response.status === 429 || response.status === 408;
    const words = response.status === 404 ? 'not found' : 'the server refused';
    throw new DownloadError(name, url, `${words} (HTTP ${response.status})`, transient);
  }
  if (isWebPage(response)) {
    const reason = 'the server answered with a web page, so this address holds no such file';
    throw new DownloadError(name, url, reason, false);
  }
  return response;
}

function isWebPage(response: Response): boolean {
  return response.headers.get('content-type')?.includes('text/html') ?? false;
}

function unreachable(name: string, url: string, cause: unknown): DownloadError {
  return new DownloadError(name, url, `no answer from the server: ${messageOf(cause)}`, true, { cause });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
