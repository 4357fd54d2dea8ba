import { expect, test } from 'vitest';
import { GpuSession } from './gpu-session';

/** A device that can be told to fail. */
class TestDevice extends EventTarget {
  lose: (info: GPUDeviceLostInfo) => void = () => {};
  readonly lost = new Promise<GPUDeviceLostInfo>((resolve) => {
    this.lose = resolve;
  });
  destroy(): void {
    this.lose({ reason: 'destroyed', message: 'device was destroyed' } as GPUDeviceLostInfo);
  }
}

async function setup() {
  const device = new TestDevice();
  const limits = new Proxy({}, { get: () => 1 });
  const adapter = { features: new Set(), info: {}, limits, requestDevice: async () => device };
  const gpu = { requestAdapter: async () => adapter, wgslLanguageFeatures: new Set() } as unknown as GPU;
  const failures: Error[] = [];
  const session = await GpuSession.open(gpu, (error) => failures.push(error));
  return { device, session, failures };
}

const hanging = () => new Promise<never>(() => {});

test('a lost device rejects what is pending and what comes later', async () => {
  const { device, session, failures } = await setup();
  const pending = session.guard(hanging());
  device.lose({ reason: 'unknown', message: 'driver reset' } as GPUDeviceLostInfo);
  await expect(pending).rejects.toMatchObject({
    name: 'DeviceLostError',
    message: expect.stringContaining('driver reset'),
  });
  await expect(session.guard(hanging())).rejects.toThrow('driver reset');
  expect(failures).toEqual([session.failure]);
});

test('an error that the loss caused gives way to the loss', async () => {
  const { device, session } = await setup();
  const work = session.guard(Promise.reject(new DOMException('mapping aborted', 'AbortError')));
  setTimeout(() => device.lose({ reason: 'unknown', message: 'driver reset' } as GPUDeviceLostInfo), 5);
  await expect(work).rejects.toThrow('driver reset');
});

test('an error of the work itself stays what it is', async () => {
  const { session } = await setup();
  await expect(session.guard(Promise.reject(new Error('no such tensor')))).rejects.toThrow('no such tensor');
  expect(session.failure).toBeNull();
});

test('an uncaptured error ends the session', async () => {
  const { device, session, failures } = await setup();
  const pending = session.guard(hanging());
  device.dispatchEvent(
    Object.assign(new Event('uncapturederror'), { error: { message: 'binding too small' } }),
  );
  await expect(pending).rejects.toMatchObject({ name: 'GpuOperationError', message: 'binding too small' });
  expect(failures.length).toBe(1);
});

test('closing is no failure', async () => {
  const { session, failures } = await setup();
  session.close();
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(session.failure).toBeNull();
  expect(failures).toEqual([]);
});
