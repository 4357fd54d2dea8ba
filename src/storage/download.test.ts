import { describe, expect, test } from 'vitest';
import { downloadFile } from './download';
import { sha256Hex } from './sha256';
import { chunked, testEnvironment, testServer, testUrl } from './testing';

const bytes = Uint8Array.from({ length: 5500 }, (_, i) => (i * 13) & 0xff).buffer;

async function setup() {
  const server = testServer(new Map([['data.bin', bytes]]));
  const { network } = testEnvironment(server);
  const request = {
    url: `${testUrl}data.bin`,
    name: 'data.bin',
    bytes: bytes.byteLength,
    sha256: await sha256Hex(bytes),
  };
  const fail = (...answers: (() => Response | Promise<Response>)[]) => server.faults.set('data.bin', answers);
  return { server, network, request, fail };
}

test('a file arrives whole and its progress ends at its length', async () => {
  const { network, request } = await setup();
  const progress: number[] = [];
  const got = await downloadFile(request, network, { onProgress: (received) => progress.push(received) });
  expect(new Uint8Array(got)).toEqual(new Uint8Array(bytes));
  expect(progress).toEqual([0, 1000, 2000, 3000, 4000, 5000, 5500]);
});

describe('what may pass is tried again', () => {
  const dropped = () => {
    let sent = false;
    return new Response(
      new ReadableStream({
        pull(controller) {
          if (sent) controller.error(new TypeError('network error'));
          else controller.enqueue(new Uint8Array(700));
          sent = true;
        },
      }),
    );
  };
  const cases: Record<string, () => Response | Promise<Response>> = {
    'no connection': () => Promise.reject(new TypeError('Failed to fetch')),
    'an overloaded server': () => new Response('', { status: 503 }),
    'a broken connection': dropped,
    'a body that ends early': () => new Response(chunked(bytes, 3000)),
    'a body with a flipped bit': () => {
      const flipped = new Uint8Array(bytes.slice(0));
      flipped[4321]! ^= 16;
      return new Response(chunked(flipped.buffer));
    },
  };
  test.each(Object.entries(cases))('%s', async (_, fault) => {
    const { server, network, request, fail } = await setup();
    fail(fault);
    expect(await sha256Hex(await downloadFile(request, network))).toBe(request.sha256);
    expect(server.requests.length).toBe(2);
  });
});

describe('what stays wrong is told with file, expected and found', () => {
  test('too short', async () => {
    const { network, request, server } = await setup();
    const error = downloadFile({ ...request, bytes: 5501 }, network);
    await expect(error).rejects.toMatchObject({
      name: 'IntegrityError',
      message: 'data.bin: wrong length: expected 5501 bytes, found 5500 bytes',
    });
    // the first attempt brought something new, so three more follow it and one
    expect(server.requests.length).toBe(5);
  });

  test('too long', async () => {
    const { network, request } = await setup();
    await expect(downloadFile({ ...request, bytes: 5499 }, network)).rejects.toThrow(
      'data.bin: wrong length: expected 5499 bytes, found more bytes than that',
    );
  });

  test('wrong hash', async () => {
    const { network, request } = await setup();
    const expected = 'ab'.repeat(32);
    await expect(downloadFile({ ...request, sha256: expected }, network)).rejects.toMatchObject({
      name: 'IntegrityError',
      what: 'SHA-256',
      expected,
      found: request.sha256,
    });
  });

  test('not found, without trying again', async () => {
    const { network, request, server } = await setup();
    await expect(downloadFile({ ...request, url: `${testUrl}other.bin` }, network)).rejects.toThrow(
      'cannot download data.bin: not found (HTTP 404) (https://models.test/tiny/other.bin)',
    );
    expect(server.requests).toEqual(['other.bin']);
  });

  test('a web page instead of a file', async () => {
    const { network, request, server, fail } = await setup();
    fail(() => new Response('<!doctype html>', { headers: { 'content-type': 'text/html; charset=utf-8' } }));
    await expect(downloadFile(request, network)).rejects.toThrow('the server answered with a web page');
    expect(server.requests.length).toBe(1);
  });
});

test('an abort ends the download with the reason, at once', async () => {
  const { network, request, server } = await setup();
  const abort = new AbortController();
  const onProgress = (received: number) => {
    if (received === 2000) abort.abort(new Error('enough'));
  };
  server.faults.set('data.bin', [
    () =>
      new Response(
        chunked(bytes, 2000).pipeThrough(
          new TransformStream({
            flush: (controller) => controller.error(new DOMException('aborted', 'AbortError')),
          }),
        ),
      ),
  ]);
  await expect(downloadFile(request, network, { onProgress, signal: abort.signal })).rejects.toThrow(
    'enough',
  );
  expect(server.requests.length).toBe(1);
});
