/** Both shard stores through the same steps, inside a worker of the page's origin; posts what it found (stores.spec.ts). */
import { bothStores, timeStore } from '../src/storage/choose-store';
import { openIndexedDbShardStore } from '../src/storage/indexed-db';
import { openOpfsShardStore } from '../src/storage/opfs';
import { FileParts } from '../src/storage/parts';
import { sha256Hex } from '../src/storage/sha256';
import type { ShardStore } from '../src/storage/stores';

export interface SuiteReport {
  /** Steps that went wrong, by store. */
  readonly problems: readonly string[];
  /** MB/s of one 32 MiB shard. */
  readonly speeds: Readonly<Record<string, { readonly write: number; readonly read: number }>>;
}

const key = (digit: string) => digit.repeat(64);
const same = (a: ArrayBuffer | undefined, b: Uint8Array) =>
  a !== undefined && new Uint8Array(a).join() === b.join();

/** The contract of a ShardStore, step by step. */
async function contract(name: string, store: ShardStore): Promise<string[]> {
  const problems: string[] = [];
  const check = (what: string, good: boolean) => {
    if (!good) problems.push(`${name}: ${what}`);
  };
  const bytes = crypto.getRandomValues(new Uint8Array(5000));
  const hash = await sha256Hex(bytes.buffer);
  check('nothing is there at first', (await store.get(hash)) === undefined && !(await store.has(hash)));
  await store.put(hash, bytes.buffer);
  check('what was put comes back', same(await store.get(hash), bytes));
  check('the caller keeps its bytes', bytes.byteLength === 5000);
  check('it is listed', (await store.list()).join() === hash && (await store.has(hash)));
  await store.put(hash, bytes.slice(0, 10).buffer);
  check('putting again replaces it', same(await store.get(hash), bytes.slice(0, 10)));
  await store.put(key('e'), new ArrayBuffer(0));
  check('an empty file is a file', (await store.get(key('e')))?.byteLength === 0);
  await Promise.all([store.put(key('1'), bytes.buffer), store.put(key('2'), bytes.buffer), store.get(hash)]);
  check('several at once', (await store.list()).length === 4);
  const readers = await Promise.all([store.get(key('1')), store.get(key('1')), store.get(key('1'))]);
  check(
    'several readers of one file',
    readers.every((read) => same(read, bytes)),
  );
  await Promise.all((await store.list()).map((stored) => store.delete(stored)));
  check('deleted is gone', (await store.list()).length === 0 && (await store.get(hash)) === undefined);
  await store.delete(hash); // deleting what is not there is nothing
  return problems;
}

/** The beginning of a file on its way, piece by piece, as the next visit finds it. */
async function pieces(name: string, store: ShardStore): Promise<string[]> {
  const problems: string[] = [];
  const bytes = crypto.getRandomValues(new Uint8Array(9000));
  const origin = { url: 'https://example.org/shard', etag: '"1"' };
  const writer = new FileParts(store, key('a'));
  writer.save(origin, bytes, 4000, true);
  writer.save(origin, bytes, 7000, true);
  while ((await store.list()).length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  const target = new Uint8Array(9000);
  const found = await new FileParts(store, key('a')).restore(origin.url, target);
  if (found?.bytes !== 7000 || found.etag !== origin.etag) problems.push(`${name}: pieces come back`);
  if (target.slice(0, 7000).join() !== bytes.slice(0, 7000).join()) problems.push(`${name}: their bytes`);
  await new FileParts(store, key('a')).restore('https://example.org/another', target);
  if ((await store.list()).length > 0) problems.push(`${name}: pieces of another address are dropped`);
  return problems;
}

async function run(): Promise<SuiteReport> {
  const indexedDb = openIndexedDbShardStore();
  const opfs = await openOpfsShardStore();
  const stores = { 'indexed-db': indexedDb, opfs, both: bothStores(opfs, indexedDb) };
  const problems: string[] = [];
  const speeds: Record<string, { write: number; read: number }> = {};
  for (const [name, store] of Object.entries(stores)) {
    problems.push(...(await contract(name, store)), ...(await pieces(name, store)));
    const { writeMs, readMs } = await timeStore(store, 32 * 2 ** 20);
    speeds[name] = { write: Math.round(33_554 / writeMs), read: Math.round(33_554 / readMs) };
  }
  return { problems, speeds };
}

run().then(
  (report) => postMessage(report),
  (error) => postMessage({ problems: [String(error)], speeds: {} }),
);
