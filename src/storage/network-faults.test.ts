/** Everything a network or a server does to a download, over real HTTP. */
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { type Fault, startFaultServer } from '../../e2e/fault-server';
import { downloadFile } from './download';
import { PauseGate } from './pause';
import { sha256Hex } from './sha256';

const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 13 + (i >> 8)) & 0xff);
const server = await startFaultServer(new Map([['data.bin', bytes]]));
const sha256 = await sha256Hex(bytes.buffer);
const request = { url: `${server.url}data.bin`, name: 'data.bin', bytes: bytes.length, sha256 };
const network = { fetch, retryMs: 1, idleMs: 300 };

afterAll(() => server.close());
beforeEach(() => {
  server.requests.length = 0;
  server.faults.clear();
  server.always.clear();
});

const starts = () => server.requests.map(({ from }) => from);
const half = 150_000;

describe('a download that stumbles arrives whole', () => {
  const cases: readonly (readonly [string, readonly Fault[], (starts: number[]) => void])[] = [
    [
      'a dropped connection goes on where it broke',
      [{ kind: 'drop', afterBytes: half }],
      (from) => expect(from).toEqual([0, half]),
    ],
    [
      'five drops in a row, each a bit further, are not too many',
      Array.from({ length: 5 }, () => ({ kind: 'drop', afterBytes: 40_000 }) as const),
      (from) => expect(from).toEqual([0, 40_000, 80_000, 120_000, 160_000, 200_000]),
    ],
    [
      'a stall is noticed by the idle watchdog',
      [{ kind: 'stall', afterBytes: half }],
      (from) => expect(from).toEqual([0, half]),
    ],
    [
      'a server that answers 200 to a range starts the file over',
      [{ kind: 'drop', afterBytes: half }, { kind: 'ignore-range' }],
      (from) => expect(from).toEqual([0, half]),
    ],
    [
      'a file that changed meanwhile starts over',
      [{ kind: 'drop', afterBytes: half }, { kind: 'other-version' }],
      (from) => expect(from).toEqual([0, half, 0]),
    ],
    [
      'a complete answer that is short goes on where it ended',
      [{ kind: 'short', bytes: half }],
      (from) => expect(from).toEqual([0, half]),
    ],
    [
      'an oversized answer starts over',
      [{ kind: 'oversized', bytes: 1 }],
      (from) => expect(from).toEqual([0, 0]),
    ],
    [
      'a bit that flips once is fetched again',
      [{ kind: 'flip', bit: 8 * half }],
      (from) => expect(from).toEqual([0, 0]),
    ],
    ['an overloaded server', [{ kind: 'status', status: 503 }], (from) => expect(from).toEqual([0, 0])],
  ];
  test.each(cases)('%s', async (_, faults, check) => {
    server.faults.set('data.bin', [...faults]);
    expect(await sha256Hex(await downloadFile(request, network))).toBe(sha256);
    check(starts());
  });
});

describe('a download that cannot succeed says why, by name', () => {
  const cases: readonly (readonly [string, Fault, RegExp, number])[] = [
    [
      'a bit that flips always',
      { kind: 'flip', bit: 9 },
      /^data\.bin: wrong SHA-256: expected .*, found /,
      2,
    ],
    ['always short', { kind: 'short', bytes: 1000 }, /^data\.bin: wrong length: expected 300000 bytes/, 0],
    ['always oversized', { kind: 'oversized', bytes: 5 }, /wrong length: .* found more bytes than that/, 0],
    ['a web page with status 200', { kind: 'web-page' }, /the server answered with a web page/, 1],
    ['a stall on every attempt', { kind: 'stall', afterBytes: 0 }, /nothing received for 0\.3 s/, 4],
    ['gone', { kind: 'status', status: 404 }, /not found \(HTTP 404\)/, 1],
  ];
  test.each(cases)('%s', async (_, fault, message, requests) => {
    server.always.set('data.bin', fault);
    await expect(downloadFile(request, network)).rejects.toThrow(message);
    if (requests > 0) expect(starts().length).toBe(requests);
    else expect(starts().length).toBeLessThan(12);
  });
});

test('a paused download keeps what it has and goes on from there', async () => {
  server.faults.set('data.bin', [{ kind: 'stall', afterBytes: half }]);
  const pause = new PauseGate();
  const download = downloadFile(
    request,
    { ...network, idleMs: 10_000 },
    {
      pause,
      onProgress: (received) => {
        if (received === half) setTimeout(() => pause.pause());
      },
    },
  );
  await expect.poll(() => pause.paused).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(starts()).toEqual([0]);
  pause.resume();
  expect(await sha256Hex(await download)).toBe(sha256);
  expect(starts()).toEqual([0, half]);
});

test('a cancel ends a paused download', async () => {
  const pause = new PauseGate();
  pause.pause();
  const abort = new AbortController();
  const download = downloadFile(request, network, { pause, signal: abort.signal });
  setTimeout(() => abort.abort(new Error('enough')), 20);
  await expect(download).rejects.toThrow('enough');
  expect(starts()).toEqual([]);
});
