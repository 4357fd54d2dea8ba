import { expose } from 'comlink';
import { expect, test } from 'vitest';
import { type EngineWorkerApi, settle, type WireReply } from '../../workers/protocol';
import { EngineClient, type WorkerLike } from './client';

/** A worker on a message port, with the events of a real one. */
class PortWorker extends EventTarget {
  terminated = false;
  readonly #port: MessagePort;

  constructor(api: Partial<EngineWorkerApi>) {
    super();
    const { port1, port2 } = new MessageChannel();
    expose({ watchFailure: async () => ({ ok: true, value: undefined }), ...api }, port2);
    this.#port = port1;
    port1.addEventListener('message', ({ data }) =>
      this.dispatchEvent(new MessageEvent('message', { data })),
    );
    port1.start();
  }

  postMessage(message: unknown, transfer: Transferable[]): void {
    this.#port.postMessage(message, transfer as never);
  }

  terminate(): void {
    this.terminated = true;
    this.#port.close();
  }
}

function setup(api: Partial<EngineWorkerApi>, heartbeatMs = 5000) {
  const workers: PortWorker[] = [];
  const failures: Error[] = [];
  const client = new EngineClient({
    createWorker: () => {
      workers.push(new PortWorker(api));
      return workers.at(-1) as unknown as WorkerLike;
    },
    onFailure: (error) => failures.push(error),
    heartbeatMs,
  });
  return { client, workers, failures };
}

const request = { messages: [], sampling: {} as never, maxTokens: 1 };
const hanging = () => new Promise<never>(() => undefined);

test('deltas arrive before the reply, and errors keep name, message and details', async () => {
  class ShapeError extends Error {
    override readonly name = 'ShapeError';
    readonly expected = 64;
    readonly nested = { dropped: true };
  }
  const reply = { text: 'ab' } as WireReply;
  const { client, workers } = setup({
    chat: (_, onDelta) =>
      settle(async () => {
        await onDelta('a');
        await onDelta('b');
        return reply;
      }),
    load: () =>
      settle(() => {
        throw new ShapeError('wrong shape');
      }),
  });
  const deltas: string[] = [];
  expect(await client.chat(request, (text) => deltas.push(text))).toEqual(reply);
  expect(deltas).toEqual(['a', 'b']);
  const error = await client.load({ url: 'x' }, () => undefined).catch((e) => e);
  expect(error).toBeInstanceOf(Error);
  expect({ ...error }).toEqual({ name: 'ShapeError', details: { expected: 64 } });
  expect(error.message).toBe('wrong shape');
  expect(workers.length).toBe(1);
  client.terminate();
});

test('a worker that dies rejects every pending call; the next call starts another', async () => {
  const { client, workers, failures } = setup({
    chat: hanging,
    load: hanging,
    cancel: async () => ({ ok: true, value: undefined }),
  });
  const pending = Promise.allSettled([
    client.chat(request, () => undefined),
    client.load({ url: 'x' }, () => undefined),
  ]);
  workers[0]!.dispatchEvent(Object.assign(new Event('error'), { message: 'out of memory' }));
  for (const result of await pending) {
    expect(result).toMatchObject({
      status: 'rejected',
      reason: { name: 'WorkerDiedError', message: "the engine's worker failed: out of memory" },
    });
  }
  expect(failures.length).toBe(1);
  expect(workers[0]!.terminated).toBe(true);
  await client.cancel();
  expect(workers.length).toBe(2);
  client.terminate();
});

test('terminate rejects what is pending', async () => {
  const { client } = setup({ probe: hanging });
  const pending = client.probe();
  client.terminate();
  await expect(pending).rejects.toThrow('the engine was terminated');
});

test('a GPU failure without a pending call reaches the listener', async () => {
  const { client, failures } = setup({
    probe: async () => ({ ok: true, value: { available: true, adapter: {} as never } }),
    watchFailure: async (onFailure) => {
      onFailure({ name: 'DeviceLostError', message: 'gone', details: {} });
      return { ok: true, value: undefined };
    },
  });
  await client.probe();
  await expect
    .poll(() => failures.map(({ name, message }) => `${name}: ${message}`))
    .toEqual(['DeviceLostError: gone']);
  client.terminate();
});

test('a worker that hangs is ended after four unanswered questions', async () => {
  const { client, workers, failures } = setup({ chat: hanging, ping: hanging }, 10);
  await expect(client.chat(request, () => undefined)).rejects.toMatchObject({
    name: 'WorkerDiedError',
    message: "the engine's worker has not answered for 0.04 s and was ended",
  });
  expect(workers[0]!.terminated).toBe(true);
  expect(failures.length).toBe(1);
});

test('a worker that is busy for long but answers lives', async () => {
  const reply = { text: 'late' } as WireReply;
  const { client, workers } = setup(
    {
      chat: () => settle(() => new Promise<WireReply>((resolve) => setTimeout(() => resolve(reply), 300))),
      ping: async () => ({ ok: true, value: undefined }),
    },
    10,
  );
  expect(await client.chat(request, () => undefined)).toEqual(reply);
  expect(workers[0]!.terminated).toBe(false);
  client.terminate();
});
