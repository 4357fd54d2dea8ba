/** The host under every fault that does not need a browser: GPU lost, wrong or full, cancels, a context that is full. */
import { afterAll, describe, expect, test } from 'vitest';
import { nodeGpuEntry } from '../src/gpu/node';
import type { LoadProgress } from './protocol';
import { gpuWith, gpuWithBug, sharedDevice, startTestHost, type TestHost } from './testing';

const gpu = await nodeGpuEntry();
const shared = sharedDevice(gpu);
const hosts: TestHost[] = [];
afterAll(() => Promise.all(hosts.map(({ host, server }) => Promise.all([host.unload(), server.close()]))));

async function start(...args: Parameters<typeof startTestHost>): Promise<TestHost> {
  const host = await startTestHost(...args);
  hosts.push(host);
  return host;
}

const question = 'The weather in Chicago';
/** What a fresh host answers. */
const reference = await start(shared).then(async (fresh) => {
  await fresh.load();
  return (await fresh.ask(question)).tokenIds;
});

test('the tiny model says something', () => {
  expect(reference.length).toBeGreaterThan(4);
  expect(new Set(reference).size).toBeGreaterThan(1);
});

test.each([
  ['auto', 'f16'],
  ['int4', 'int4'],
] as const)('%s keys and values take what is said', async (kvCache, kind) => {
  const tested = await start(shared);
  const info = await tested.load({ kvCache });
  expect(info.kvCache).toBe(kind);
  expect(info.kvCacheBytes[kind]).toBe(info.gpuBytes['kv-cache']);
  await tested.host.unload();
});

describe('a GPU that is lost', () => {
  test('while a reply is written: the call rejects, its text stays, and a load brings the model back', async () => {
    let device: GPUDevice | undefined;
    const tested = await start(gpuWith(gpu, (opened) => (device = opened)));
    await tested.load();
    let streamed = '';
    const reply = tested.ask(question, 200, (text) => {
      streamed += text;
      device!.destroy();
    });
    await expect(reply).rejects.toMatchObject({ name: 'DeviceLostError' });
    expect(streamed).not.toBe('');
    expect(tested.failures.map(({ name }) => name)).toEqual(['DeviceLostError']);
    await expect(tested.ask(question)).rejects.toThrow('no model is loaded');
    tested.server.requests.length = 0;
    await tested.load();
    expect(tested.server.requests.map(({ name }) => name)).toEqual(['manifest.json']);
    expect((await tested.ask(question)).tokenIds).toEqual(reference);
  });

  test('while a model loads: the load rejects; and never comes back: the words are to restart the browser', async () => {
    let device: GPUDevice | undefined;
    const working = gpuWith(gpu, (opened) => {
      device = opened;
    });
    let gone = false;
    const tested = await start({
      ...working,
      requestAdapter: async (options?: GPURequestAdapterOptions) =>
        gone ? null : working.requestAdapter(options),
    } as GPU);
    const onProgress = ({ phase }: LoadProgress) => {
      if (phase === 'upload') device!.destroy();
    };
    await expect(tested.load({ onProgress })).rejects.toMatchObject({ name: 'DeviceLostError' });
    gone = true;
    await expect(tested.load()).rejects.toThrow(/after its graphics process crashed: restart the browser/);
  });
});

describe('a GPU that computes wrongly', () => {
  test('in a fast kernel only: the plain kernels are used, and that is told', async () => {
    const usesPackedDot = (code: string) =>
      code.includes('dot4I8Packed(') && !code.includes('fn dot4I8Packed');
    const tested = await start(gpuWithBug(gpu, usesPackedDot, /dot4I8Packed\(/g, '1 + dot4I8Packed('));
    const { selfTest } = await tested.load();
    expect(selfTest.plainBecause).toMatch(/^the self-test of this GPU failed: logits after a prompt/);
    expect((await tested.ask(question)).tokenIds).toEqual(reference);
  });

  test('in every kernel: no model is loaded', async () => {
    const tested = await start(gpuWithBug(gpu, () => true, /\bexp\(/g, 'exp2('));
    await expect(tested.load()).rejects.toMatchObject({ name: 'SelfTestError' });
    expect(tested.server.requests.map(({ name }) => name)).toEqual(['manifest.json']);
  });

  test('a GPU that computes rightly takes its fast kernels', async () => {
    const { selfTest } = await (await start(shared)).load();
    expect(selfTest.plainBecause).toBeNull();
    expect(selfTest.ms).toBeGreaterThan(0);
  });
});

describe('the debug option that holds a layer against the reference', () => {
  test('finds a layer of the stored weights right, on the kernels that generate', async () => {
    const tested = await start(shared);
    await tested.load({ checkLayer: 0 });
    const { tokenIds, stats } = await tested.ask(question);
    expect(tokenIds).toEqual(reference);
    expect(stats.layerCheck!.passes).toBeGreaterThanOrEqual(tokenIds.length);
    expect(stats.layerCheck!.largestError).toBeLessThanOrEqual(stats.layerCheck!.allowed);
  });

  test('finds a weight that changes on its way to the GPU, which nothing else does', async () => {
    const flipping = gpuWith(gpu, ({ queue }) => {
      const write = queue.writeBuffer.bind(queue) as (...args: unknown[]) => undefined;
      queue.writeBuffer = (buffer: GPUBuffer, ...rest: unknown[]) => {
        write(buffer, ...rest);
        // the self-test's model, too, has buffers of this name: it is 96 inputs wide there
        if (buffer.label === 'layers.0.down.weight[0]' && buffer.size === (32 * 64) / 2)
          write(buffer, 0, new Uint32Array([0x87654321]));
      };
    });
    const tested = await start(flipping);
    await tested.load();
    expect((await tested.ask(question)).tokenIds.length).toBeGreaterThan(0);
    await expect(tested.load({ checkLayer: 0 })).rejects.toMatchObject({
      name: 'LayerCheckError',
      layer: 0,
      what: 'x after the layer [0]',
    });
  });

  test('a layer that is not there is said before the download', async () => {
    const tested = await start(shared);
    await expect(tested.load({ checkLayer: 1 })).rejects.toMatchObject({ name: 'NoSuchLayerError' });
    expect(tested.server.requests.map(({ name }) => name)).toEqual(['manifest.json']);
  });
});

/** A GPU that runs out of memory at the second buffer called `label` (the self-test makes the first); counts living buffers. */
function fullGpu(label: string) {
  const live = new Set<GPUBuffer>();
  const full = gpuWith(gpu, (device) => {
    let left = 2;
    const create = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      if (descriptor.label === label) left--;
      const buffer = create(descriptor);
      live.add(buffer);
      const destroy = buffer.destroy.bind(buffer);
      buffer.destroy = () => {
        live.delete(buffer);
        destroy();
      };
      return buffer;
    };
    const pop = device.popErrorScope.bind(device);
    device.popErrorScope = async () => {
      const error = await pop();
      return left > 0 ? error : ({ message: 'out of memory' } as GPUError);
    };
  });
  return { full, live };
}

describe('a GPU too small', () => {
  test('for the KV cache: a named error, a shorter context suggested, everything freed', async () => {
    const { full, live } = fullGpu('layers.0.keys');
    const tested = await start(full);
    const error = await tested.load({ contextLength: 256 }).catch((e) => e);
    expect(error).toMatchObject({ name: 'ModelTooLargeError', suggestedContextLength: 128 });
    expect(error.message).toContain('a context of 128 tokens may fit');
    expect([...live].map(({ label }) => label)).toEqual([]);
  });

  test('really, which this driver is with 1 GiB of keys: named, freed, and half the context works', async () => {
    const live = new Set<GPUBuffer>();
    const counted = gpuWith(gpu, (device) => {
      const create = device.createBuffer.bind(device);
      device.createBuffer = (descriptor) => {
        const buffer = create(descriptor);
        live.add(buffer);
        const destroy = buffer.destroy.bind(buffer);
        buffer.destroy = () => {
          live.delete(buffer);
          destroy();
        };
        return buffer;
      };
    });
    const tested = await start(counted, { maxPositionEmbeddings: 131_072, heads: { count: 32, dim: 128 } });
    const error = await tested.load({ kvCache: 'f16' }).catch((e) => e);
    expect(error).toMatchObject({ name: 'ModelTooLargeError', suggestedContextLength: 65_536 });
    expect(error.message).toMatch(/OUT_OF_DEVICE_MEMORY|[Oo]ut of memory/);
    expect([...live].map(({ label }) => label)).toEqual([]);
    await tested.load({ kvCache: 'f16', contextLength: error.suggestedContextLength });
    expect((await tested.ask(question, 4)).tokenIds.length).toBe(4);
    await tested.host.unload();
    expect([...live].map(({ label }) => label)).toEqual([]);
  });

  test('for the weights: said before the download', async () => {
    const { full, live } = fullGpu('head.weight[0]');
    const tested = await start(full);
    await expect(tested.load()).rejects.toMatchObject({
      name: 'ModelTooLargeError',
      suggestedContextLength: null,
    });
    expect(tested.server.requests.map(({ name }) => name)).toEqual(['manifest.json']);
    expect([...live].map(({ label }) => label)).toEqual([]);
  });

  test('by its limits: said before the download', async () => {
    const limits = { maxBufferSize: 2 ** 16, maxStorageBufferBindingSize: 2 ** 16 };
    const small = gpuWith(gpu, (device) => Object.defineProperty(device, 'limits', { value: { ...limits } }));
    const tested = await start(small, { maxPositionEmbeddings: 65_536 });
    const error = await tested.load().catch((e) => e);
    expect(error).toMatchObject({ name: 'ModelTooLargeError' });
    expect(error.suggestedContextLength).toBeLessThan(65_536);
    expect(tested.server.requests.map(({ name }) => name)).toEqual(['manifest.json']);
  });
});

describe('a cancel at any stage leaves a host that answers as a fresh one', () => {
  test.each<LoadProgress['phase']>(['manifest', 'download', 'verify', 'upload', 'compile', 'self-test'])(
    'loading: %s',
    async (stage) => {
      const tested = await start(shared);
      const onProgress = ({ phase }: LoadProgress) => {
        if (phase === stage) tested.host.cancel();
      };
      await expect(tested.load({ onProgress })).rejects.toMatchObject({ name: 'AbortError' });
      await tested.load();
      expect((await tested.ask(question)).tokenIds).toEqual(reference);
    },
  );

  test('prefill and decode', async () => {
    const tested = await start(shared);
    await tested.load();
    const prefill = tested.ask(`${question} `.repeat(6), 100);
    tested.host.cancel();
    expect((await prefill).finishReason).toBe('cancelled');
    const decode = await tested.ask('Hello', 200, () => tested.host.cancel());
    expect(decode.finishReason).toBe('cancelled');
    expect((await tested.ask(question)).tokenIds).toEqual(reference);
  });
});

test('a full context ends a reply with that reason, and a prompt that does not fit is refused by name', async () => {
  const tested = await start(shared);
  await tested.load({ contextLength: 64 });
  const reply = await tested.ask(question, 1000);
  expect(['context', 'stop']).toContain(reply.finishReason);
  expect(reply.promptIds.length + reply.tokenIds.length).toBeLessThanOrEqual(65);
  await expect(tested.ask('Hello '.repeat(100))).rejects.toMatchObject({ name: 'ContextFullError' });
  expect((await tested.ask(question, 4)).tokenIds).toEqual(reference.slice(0, 4));
});

test('what is refused by its manifest or the GPU’s limits takes nothing away: the loaded one answers', async () => {
  const limits = { maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 28 };
  const shrinking = gpuWith(gpu, (device) => Object.defineProperty(device, 'limits', { value: limits }));
  const tested = await start(shrinking, { maxPositionEmbeddings: 65_536 });
  await tested.load({ contextLength: 256 });
  const phases: string[] = [];
  const onProgress = ({ phase }: LoadProgress) => phases.push(phase);
  tested.server.always.set('manifest.json', { kind: 'web-page' });
  const elsewhere = { url: tested.server.url.replace('tiny', 'elsewhere') }; // nothing of it is stored
  await expect(tested.host.load(elsewhere, onProgress)).rejects.toThrow(
    /the server answered with a web page/,
  );
  Object.assign(limits, { maxBufferSize: 2 ** 16, maxStorageBufferBindingSize: 2 ** 16 });
  await expect(tested.load({ onProgress })).rejects.toMatchObject({ name: 'ModelTooLargeError' });
  expect(phases).toEqual(['manifest', 'manifest']);
  expect((await tested.ask(question, 4)).tokenIds).toEqual(reference.slice(0, 4));
});

test('a network that fails half-way is told by file, and the next load goes on from there', async () => {
  const tested = await start(shared);
  const last = tested.artifact.manifest.shards.at(-1)!.name;
  tested.server.always.set(last, { kind: 'flip', bit: 5000 });
  await expect(tested.load()).rejects.toMatchObject({ name: 'IntegrityError', file: last });
  tested.server.always.clear();
  tested.server.requests.length = 0;
  await tested.load();
  expect(tested.server.requests.map(({ name }) => name)).toEqual(['manifest.json', last]);
  expect((await tested.ask(question)).tokenIds).toEqual(reference);
});
