import { describe, expect, test } from 'vitest';
import { type ArtifactProgress, loadArtifact } from './load-artifact';
import { artifactUrl, openArtifact } from './open-artifact';
import { deleteStoredModel, listStoredModels } from './stored-models';
import { type TestArtifact, testArtifact, testByte, testEnvironment, testServer, testUrl } from './testing';

async function setup(artifact?: TestArtifact) {
  const tiny = artifact ?? (await testArtifact());
  const server = testServer(tiny.files);
  const environment = testEnvironment(server);
  const load = async (options: Parameters<typeof loadArtifact>[3] = {}) => {
    const received = new Map<string, Uint8Array>();
    let shards = 0;
    const sink = {
      tensor: (stored: { name: string }, bytes: Uint8Array) =>
        void received.set(stored.name, Uint8Array.from(bytes)),
      shardDone: async () => void shards++,
    };
    const opened = await openArtifact(testUrl, environment);
    const files = await loadArtifact(opened, sink, environment, options);
    return { received, shards, files, source: opened.source };
  };
  return { tiny, server, environment, load };
}

const noNetwork = () => Promise.reject(new TypeError('Failed to fetch'));

test('every tensor reaches the sink with its own bytes, and the next visit needs no network', async () => {
  const { tiny, server, environment, load } = await setup();
  expect(tiny.manifest.shards.length).toBeGreaterThan(2);
  const first = await load();
  expect(first.shards).toBe(tiny.manifest.shards.length);
  expect([...first.received.keys()]).toEqual(tiny.tensors.map(({ name }) => name));
  for (const { name, bytes } of tiny.tensors) {
    expect(first.received.get(name)).toEqual(Uint8Array.from({ length: bytes }, (_, i) => testByte(name, i)));
  }
  expect(first.files.tokenizerFiles.get('tokenizer.json')).toBe('{"model":"test"}');
  expect(first.files.storageProblem).toBeNull();
  expect(environment.modelMap.get(testUrl)?.complete).toBe(true);

  server.requests.length = 0;
  server.faults.set('manifest.json', [noNetwork]);
  const second = await load();
  expect(server.requests).toEqual(['manifest.json']);
  expect(second.source).toBe('store');
  expect(second.files.networkBytes).toBe(0);
  expect(second.received).toEqual(first.received);
});

test('progress grows to the total', async () => {
  const { tiny, load } = await setup();
  const reports: ArtifactProgress[] = [];
  await load({ onProgress: (progress) => reports.push(progress) });
  const total = [...tiny.manifest.shards, ...tiny.manifest.tokenizerFiles].reduce((n, f) => n + f.bytes, 0);
  const done = reports.map(({ doneBytes }) => doneBytes);
  expect(done).toEqual([...done].sort((a, b) => a - b));
  expect(reports.at(-1)).toEqual({ phase: 'upload', doneBytes: total, totalBytes: total });
  expect(new Set(reports.map(({ phase }) => phase))).toEqual(new Set(['download', 'verify', 'upload']));
});

describe('a stored shard that is damaged is fetched again and repaired', () => {
  test.each([
    [
      'a flipped bit',
      (bytes: ArrayBuffer) =>
        Uint8Array.from(new Uint8Array(bytes), (b, i) => (i === 700 ? b ^ 1 : b)).buffer,
    ],
    ['a lost end', (bytes: ArrayBuffer) => bytes.slice(0, 700)],
  ])('%s', async (_, damage) => {
    const { tiny, server, environment, load } = await setup();
    const first = await load();
    const { name, sha256, bytes } = tiny.manifest.shards[1]!;
    const stored = environment.shardMap.get(sha256)!;
    environment.shardMap.set(sha256, damage(stored));
    server.requests.length = 0;
    const second = await load();
    expect(server.requests).toEqual(['manifest.json', name]);
    expect(second.files.networkBytes).toBe(bytes);
    expect(second.received).toEqual(first.received);
    expect(environment.shardMap.get(sha256)).toEqual(tiny.files.get(name));
  });

  test('a store that throws on reading', async () => {
    const { server, environment, load } = await setup();
    await load();
    server.requests.length = 0;
    environment.shards.get = () => Promise.reject(new DOMException('unreadable', 'NotReadableError'));
    await load();
    expect(server.requests.length).toBe(environment.shardMap.size + 1);
  });
});

test('a load that failed half-way keeps the verified shards', async () => {
  const { tiny, server, load } = await setup();
  const last = tiny.manifest.shards.at(-1)!.name;
  server.faults.set(last, Array(4).fill(noNetwork));
  await expect(load()).rejects.toThrow(`cannot download ${last}: no answer from the server`);
  server.requests.length = 0;
  await load();
  expect(server.requests).toEqual(['manifest.json', last]);
});

test('a browser without space loads the model and says so', async () => {
  const { environment, load } = await setup();
  environment.shards.put = () => Promise.reject(new DOMException('no space', 'QuotaExceededError'));
  const { files } = await load();
  expect(files.storageProblem).toMatch(
    /^the browser has no room for it: 1 MB are needed; delete a stored model/,
  );
  expect(environment.modelMap.get(testUrl)?.complete).toBe(false);
});

test('at most three shards are in memory at once', async () => {
  const { tiny, server, environment } = await setup();
  const opened = await openArtifact(testUrl, environment);
  const fetchedAtDone: number[] = [];
  await loadArtifact(
    opened,
    {
      tensor: () => undefined,
      shardDone: async () => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        fetchedAtDone.push(server.requests.filter((name) => name.endsWith('.safetensors')).length);
      },
    },
    environment,
  );
  const count = tiny.manifest.shards.length;
  expect(fetchedAtDone).toEqual(Array.from({ length: count }, (_, i) => Math.min(i + 3, count)));
});

test('an abort stops fetching', async () => {
  const { server, load } = await setup();
  const abort = new AbortController();
  const onProgress = ({ phase }: ArtifactProgress) => {
    if (phase === 'upload') abort.abort(new Error('enough'));
  };
  await expect(load({ signal: abort.signal, onProgress })).rejects.toThrow('enough');
  const asked = server.requests.length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(server.requests.length).toBe(asked);
});

describe('shards that contradict the manifest are refused', () => {
  // The bytes in all stay the same, so that only the tensors tell.
  test.each([
    [
      'an unknown tensor',
      /^shard-0000\d\.safetensors: final_morn\.weight: expected only tensors of this model, found an unknown tensor$/,
      (name: string) => (name === 'final_norm.weight' ? 'final_morn.weight' : name),
    ],
    ['another shape', /o\.weight: expected F16 \[32, 32\], found F16 \[16, 64\]$/, (name: string) => name],
  ])('%s', async (what, message, rename) => {
    const artifact = await testArtifact((tensors) =>
      tensors.map((stored) =>
        what === 'another shape' && stored.name === 'layers.0.o.weight'
          ? { ...stored, rows: 16, tensor: { ...stored.tensor, shape: [16, 64] } }
          : { ...stored, name: rename(stored.name) },
      ),
    );
    const { load } = await setup(artifact);
    await expect(load()).rejects.toMatchObject({
      name: 'ManifestError',
      message: expect.stringMatching(message),
    });
  });

  test('a missing tensor', async () => {
    const artifact = await testArtifact((tensors) =>
      tensors.map((stored) =>
        // head and embedding have equal shapes: the second half of the head goes under the embedding's name
        stored.name === 'head.weight.rows.32' ? { ...stored, name: 'embed.weight.rows.32' } : stored,
      ),
    );
    const { load } = await setup(artifact);
    await expect(load()).rejects.toThrow(
      'embed.weight.rows.32: expected each tensor once, found it again after shard-',
    );
  });
});

describe('addresses', () => {
  test.each([
    ['https://a.example/m', 'https://a.example/m/'],
    [' https://a.example/m/ ', 'https://a.example/m/'],
    ['https://a.example/m/manifest.json?x=1#y', 'https://a.example/m/'],
    ['http://localhost:5173', 'http://localhost:5173/'],
  ])('%s', (address, url) => expect(artifactUrl(address)).toBe(url));

  test.each(['', 'my model', 'ftp://a.example/m', 'javascript:alert(1)'])('"%s" is refused', (address) => {
    expect(() => artifactUrl(address)).toThrow(/is not the address of a model folder/);
  });

  test('an address without a manifest is called so', async () => {
    const environment = testEnvironment(testServer(new Map()));
    await expect(openArtifact(testUrl, environment)).rejects.toThrow(
      'cannot download manifest.json: not found (HTTP 404)',
    );
  });

  test('a manifest that is no JSON is called so', async () => {
    const text = new TextEncoder().encode('hello').buffer as ArrayBuffer;
    const environment = testEnvironment(testServer(new Map([['manifest.json', text]])));
    await expect(openArtifact(testUrl, environment)).rejects.toThrow(
      'manifest.json: expected JSON, found "hello"',
    );
  });
});

test('deleting a model frees what no other model shares', async () => {
  const { tiny, environment, load } = await setup();
  await load();
  const shared = tiny.manifest.shards[0]!;
  const other = { ...tiny.manifest, name: 'other', provenance: { of: 'another url' } };
  environment.modelMap.set('https://models.test/other/', {
    url: 'https://models.test/other/',
    manifestText: JSON.stringify(other),
    complete: true,
    lastUsedMs: 2000,
  });
  expect((await listStoredModels(environment)).map(({ name }) => name)).toEqual(['other', 'tiny']);
  for (const { storedBytes, sharedBytes } of await listStoredModels(environment)) {
    expect(sharedBytes).toBe(storedBytes); // all of it is the other's, too
    expect(storedBytes).toBeGreaterThan(0);
  }
  await deleteStoredModel(testUrl, environment);
  expect((await listStoredModels(environment))[0]!.sharedBytes).toBe(0);
  expect(environment.shardMap.has(shared.sha256)).toBe(true);
  await deleteStoredModel('https://models.test/other/', environment);
  expect(environment.shardMap.size).toBe(0);
  expect(await listStoredModels(environment)).toEqual([]);
});
