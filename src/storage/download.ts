/** Fetches one file of known length and hash: streamed, counted, hashed, tried again when the network stumbles. */
import { DownloadError, IntegrityError } from './errors';
import { sha256Hex } from './sha256';

/** The outside world, replaceable in tests. */
export interface Network {
  readonly fetch: typeof fetch;
  /** Resolves after `ms` milliseconds; rejects when the signal aborts. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
}

export interface FileRequest {
  readonly url: string;
  /** The name shown in errors. */
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface DownloadOptions {
  readonly signal?: AbortSignal;
  /** Bytes of the file received so far; falls back to 0 when an attempt starts over. */
  readonly onProgress?: (receivedBytes: number) => void;
  /** Called when the last byte is there and hashing starts. */
  readonly onVerify?: () => void;
}

/** Waits before the second, third and fourth attempt. */
const retryDelaysMs = [500, 1500, 4500];

/** A connection that delivers nothing for this long counts as broken. */
const stallMs = 30_000;

export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
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
  for (let attempt = 0; ; attempt++) {
    options.signal?.throwIfAborted();
    options.onProgress?.(0);
    try {
      return await attemptDownload(request, network, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      const delayMs = retryDelaysMs[attempt];
      const transient =
        error instanceof IntegrityError || (error instanceof DownloadError && error.transient);
      if (!transient || delayMs === undefined) throw error;
      await network.sleep(delayMs, options.signal);
    }
  }
}

async function attemptDownload(
  request: FileRequest,
  network: Network,
  options: DownloadOptions,
): Promise<ArrayBuffer> {
  const guard = stallGuard(options.signal);
  try {
    // IndexedDB keeps the verified copy; a second one in the HTTP cache would only cost disk.
    const response = await fetchFile(request.name, request.url, network, {
      cache: 'no-store',
      signal: guard.signal,
    });
    const bytes = await readBody(request, response, (receivedBytes) => {
      guard.alive();
      options.onProgress?.(receivedBytes);
    });
    guard.stop();
    options.onVerify?.();
    const found = await sha256Hex(bytes);
    if (found !== request.sha256) throw new IntegrityError(request.name, 'SHA-256', request.sha256, found);
    return bytes;
  } finally {
    guard.stop();
  }
}

/** Aborts a fetch with the caller's signal, or with a transient DownloadError-to-be when no byte comes for `stallMs`. */
function stallGuard(outer: AbortSignal | undefined) {
  const controller = new AbortController();
  const onAbort = () => controller.abort(outer?.reason);
  outer?.addEventListener('abort', onAbort, { once: true });
  const expire = () => controller.abort(new Error(`nothing received for ${stallMs / 1000} s`));
  let timer = setTimeout(expire, stallMs);
  return {
    signal: controller.signal,
    alive: () => {
      clearTimeout(timer);
      timer = setTimeout(expire, stallMs);
    },
    stop: () => {
      clearTimeout(timer);
      outer?.removeEventListener('abort', onAbort);
    },
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
    throw new DownloadError(name, url, `no answer from the server: ${messageOf(cause)}`, true, { cause });
  }
  if (!response.ok) {
    const transient = response.status >= 500 || response.status === 429 || response.status === 408;
    const words = response.status === 404 ? 'not found' : 'the server refused';
    throw new DownloadError(name, url, `${words} (HTTP ${response.status})`, transient);
  }
  if (response.headers.get('content-type')?.includes('text/html')) {
    const reason = 'the server answered with a web page, so this address holds no such file';
    throw new DownloadError(name, url, reason, false);
  }
  return response;
}

async function readBody(
  request: FileRequest,
  response: Response,
  onReceived: (bytes: number) => void,
): Promise<ArrayBuffer> {
  const buffer = new Uint8Array(request.bytes);
  const reader = response.body?.getReader();
  let received = 0;
  try {
    for (;;) {
      const chunk = await reader?.read();
      if (!chunk || chunk.done) break;
      if (received + chunk.value.length > request.bytes) {
        await reader?.cancel();
        throw new IntegrityError(request.name, 'length', `${request.bytes} bytes`, 'more bytes than that');
      }
      buffer.set(chunk.value, received);
      received += chunk.value.length;
      onReceived(received);
    }
  } catch (cause) {
    if (cause instanceof IntegrityError) throw cause;
    const reason = `the connection broke after ${received} of ${request.bytes} bytes: ${messageOf(cause)}`;
    throw new DownloadError(request.name, request.url, reason, true, { cause });
  }
  // Chromium reports a body that ends early as complete: only counting tells.
  if (received !== request.bytes) {
    throw new IntegrityError(request.name, 'length', `${request.bytes} bytes`, `${received} bytes`);
  }
  return buffer.buffer;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
