/** A download that a reload or a crash interrupts within a file, over real HTTP: what the next visit asks for. */
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { type Fault, startFaultServer } from '../../e2e/fault-server';
import { downloadFile } from './download';
import { FileParts, pieceOf } from './parts';
import { sha256Hex } from './sha256';
import { sweepShards } from './stored-models';
import type { ShardStore } from './stores';
import { testEnvironment } from './testing';

const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 13 + (i >> 8)) & 0xff);
const half = 150_000;
const server = await startFaultServer(new Map([['data.bin', bytes]]));
const sha256 = await sha256Hex(bytes.buffer);
const request = { url: `${server.url}data.bin`, name: 'data.bin', bytes: bytes.length, sha256 };
const network = { fetch, retryMs: 1, idleMs: 5_000 };

afterAll(() => server.close());
beforeEach(() => {
  server.requests.length = 0;
  server.faults.clear();
});

const starts = () => server.requests.splice(0).map(({ from }) => from);

/** A visit that ends when half of the file is there: what it leaves in the store. */
async function interrupted(store: ShardStore): Promise<void> {
  server.faults.set('data.bin', [{ kind: 'stall', afterBytes: half }]);
  const visit = new AbortController();
  const parts = new FileParts(store, sha256);
  const onProgress = (received: number) => {
    if (received === half) setTimeout(() => visit.abort(new Error('closed')));
  };
  const download = downloadFile(request, network, { parts, signal: visit.signal, onProgress });
  await expect(download).rejects.toThrow('closed');
  await expect.poll(() => store.list()).toHaveLength(1);
  expect(starts()).toEqual([0]);
}

async function nextVisit(store: ShardStore, faults: Fault[] = []): Promise<number[]> {
  server.faults.set('data.bin', faults);
  const parts = new FileParts(store, sha256);
  expect(await sha256Hex(await downloadFile(request, network, { parts }))).toBe(sha256);
  await parts.drop();
  expect(await store.list()).toEqual([]);
  return starts();
}

describe('the next visit', () => {
  test('asks for what is missing only', async () => {
    const { shards } = testEnvironment({ fetch });
    await interrupted(shards);
    expect(await nextVisit(shards)).toEqual([half]);
  });

  test.each<[string, Fault, number[]]>([
    ['a file that changed meanwhile', { kind: 'other-version' }, [half, 0]],
    ['a server that answers 200 to a range', { kind: 'ignore-range' }, [half]],
  ])('starts over: %s', async (_, fault, expected) => {
    const { shards } = testEnvironment({ fetch });
    await interrupted(shards);
    expect(await nextVisit(shards, [fault])).toEqual(expected);
  });

  test.each<[string, (piece: Uint8Array<ArrayBuffer>) => ArrayBuffer, number[]]>([
    [
      'with a flipped bit is found by the hash of the whole',
      (piece) => {
        piece[piece.length - 5]! ^= 1;
        return piece.buffer;
      },
      [half, 0],
    ],
    ['that was cut is asked for from there', (piece) => piece.slice(0, -1000).buffer, [half - 1000]],
    ['that is no piece at all is dropped', () => new ArrayBuffer(3), [0]],
  ])('a piece %s', async (_, spoil, expected) => {
    const { shards, shardMap } = testEnvironment({ fetch });
    await interrupted(shards);
    const [[key, piece]] = [...shardMap] as [[string, ArrayBuffer]];
    shardMap.set(key, spoil(new Uint8Array(piece)));
    expect(await nextVisit(shards)).toEqual(expected);
  });

  test('does not take pieces of another address, or with a hole before them', async () => {
    const { shards, shardMap } = testEnvironment({ fetch });
    await interrupted(shards);
    const [[key, piece]] = [...shardMap] as [[string, ArrayBuffer]];
    const parts = new FileParts(shards, sha256);
    expect(await parts.restore('https://example.org/data.bin', new Uint8Array(bytes.length))).toBeNull();
    expect(shardMap.size).toBe(0);
    shardMap.set(key.replace('.at-0', '.at-7'), piece);
    expect(await nextVisit(shards)).toEqual([0]);
  });

  test('asks for nothing when all was there but not yet checked', async () => {
    const { shards } = testEnvironment({ fetch });
    new FileParts(shards, sha256).save({ url: request.url, etag: '"1"' }, bytes, bytes.length, true);
    await expect.poll(() => shards.list()).toHaveLength(1);
    expect(await nextVisit(shards)).toEqual([]);
  });
});

test('a file of a server without a strong validator is not kept in pieces', async () => {
  const { shards } = testEnvironment({ fetch });
  const parts = new FileParts(shards, sha256);
  const weak: typeof fetch = async (...args) => {
    const { body, status } = await fetch(...args);
    return new Response(body, { status, headers: { etag: 'W/"1"' } });
  };
  server.faults.set('data.bin', [{ kind: 'drop', afterBytes: half }]);
  const got = await downloadFile(request, { ...network, fetch: weak }, { parts });
  expect(await sha256Hex(got)).toBe(sha256);
  expect(starts()).toEqual([0, 0]);
  expect(await parts.drop()).toBe(false);
});

test('a store that refuses pieces does not hold up the download', async () => {
  const { shards } = testEnvironment({ fetch });
  const full = { ...shards, put: () => Promise.reject(new DOMException('full', 'QuotaExceededError')) };
  server.faults.set('data.bin', [{ kind: 'drop', afterBytes: half }]);
  const got = await downloadFile(request, network, { parts: new FileParts(full, sha256) });
  expect(await sha256Hex(got)).toBe(sha256);
  expect(starts()).toEqual([0, half]);
});

test('pieces of files that no model needs, or that are whole by now, are collected', async () => {
  const { shards, models, shardMap } = testEnvironment({ fetch });
  const piece = `${sha256}.at-0`;
  shardMap.set(piece, new ArrayBuffer(4));
  await sweepShards({ shards, models });
  expect([...shardMap.keys()]).toEqual([]);
  expect(pieceOf(piece)).toEqual({ sha256, at: 0 });
  expect(pieceOf(sha256)).toBeNull();
});
