/** A small file server that misbehaves on demand: what networks and servers do to a download, one answer at a time. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** How one answer goes wrong. Byte counts are of the body. */
export type Fault =
  | { readonly kind: 'drop'; readonly afterBytes: number } // the connection breaks
  | { readonly kind: 'stall'; readonly afterBytes: number } // nothing comes any more, the connection stays
  | { readonly kind: 'hold'; readonly until: Promise<unknown> } // no answer before that
  | { readonly kind: 'ignore-range' } // 200 and the whole file
  | { readonly kind: 'other-version' } // the file's ETag has changed
  | { readonly kind: 'short'; readonly bytes: number } // a complete answer, as if the file had only so many bytes
  | { readonly kind: 'oversized'; readonly bytes: number }
  | { readonly kind: 'flip'; readonly bit: number }
  | { readonly kind: 'web-page' } // HTML with status 200
  | { readonly kind: 'status'; readonly status: number };

export interface SeenRequest {
  /** Last part of the path. */
  readonly name: string;
  /** First byte asked for; 0 without a Range header. */
  readonly from: number;
}

export interface FaultServer {
  /** With a trailing slash. */
  readonly url: string;
  readonly requests: SeenRequest[];
  /** Faults of the next answers for a file, in order; `always` goes on for ever. */
  readonly faults: Map<string, Fault[]>;
  readonly always: Map<string, Fault>;
  close(): Promise<void>;
}

const headers = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Expose-Headers': 'ETag, Content-Range',
  'Cross-Origin-Resource-Policy': 'cross-origin',
  'Cache-Control': 'no-store',
};

/** Serves `files` by name on a free port, with strong ETags and Range. */
export async function startFaultServer(files: ReadonlyMap<string, Uint8Array>): Promise<FaultServer> {
  const requests: SeenRequest[] = [];
  const faults: FaultServer['faults'] = new Map();
  const always: FaultServer['always'] = new Map();
  const server = createServer(async (request, response) => {
    const name = request.url!.split('/').at(-1)!;
    const bytes = files.get(name);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    requests.push({ name, from });
    if (!bytes) return void response.writeHead(404, headers).end();
    const fault = faults.get(name)?.shift() ?? always.get(name) ?? null;
    if (fault?.kind === 'hold') await fault.until;
    await answer(request, response, bytes, from, fault);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return { url: `http://127.0.0.1:${port}/tiny/`, requests, faults, always, close };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  original: Uint8Array,
  from: number,
  fault: Fault | null,
): Promise<void> {
  if (fault?.kind === 'status') return void response.writeHead(fault.status, headers).end();
  if (fault?.kind === 'web-page') {
    response.writeHead(200, { ...headers, 'Content-Type': 'text/html; charset=utf-8' });
    return void response.end('<!doctype html><title>Sign in</title>');
  }
  const file = spoiled(original, fault);
  const etag = fault?.kind === 'other-version' ? '"2"' : '"1"';
  if (from > 0 && from >= file.length) {
    return void response.writeHead(416, { ...headers, 'Content-Range': `bytes */${file.length}` }).end();
  }
  const partial = from > 0 && fault?.kind !== 'ignore-range';
  const begin = partial ? from : 0;
  const body = file.subarray(begin);
  response.writeHead(partial ? 206 : 200, {
    ...headers,
    ETag: etag,
    'Content-Type': 'application/octet-stream',
    // without a length a complete answer can be short or oversized
    ...(fault ? {} : { 'Content-Length': String(body.length) }),
    ...(partial ? { 'Content-Range': `bytes ${begin}-${file.length - 1}/${file.length}` } : {}),
  });
  if (fault?.kind !== 'drop' && fault?.kind !== 'stall') return void response.end(body);
  response.write(body.subarray(0, fault.afterBytes));
  if (fault.kind === 'stall') return;
  await new Promise((resolve) => setTimeout(resolve, 50)); // lets the bytes leave first
  request.socket.destroy();
}

/** The file as a faulty server has it. */
function spoiled(file: Uint8Array, fault: Fault | null): Uint8Array {
  switch (fault?.kind) {
    case 'short':
      return file.slice(0, fault.bytes);
    case 'oversized':
      return Buffer.concat([file, new Uint8Array(fault.bytes)]);
    case 'flip': {
      const flipped = file.slice();
      flipped[Math.min(fault.bit >> 3, file.length - 1)]! ^= 1 << (fault.bit & 7);
      return flipped;
    }
    default:
      return file;
  }
}
