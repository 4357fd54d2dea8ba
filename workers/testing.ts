/** For tests: the host with a real GPU, a fault-injecting server and stores in memory. */
import { startFaultServer } from '../e2e/fault-server';
import { type TinyArtifact, type TinyOptions, tinyArtifact } from '../e2e/tiny-artifact';
import { greedy } from '../src/engine/types';
import type { KvCacheChoice } from '../src/format/kv-cache';
import { testEnvironment } from '../src/storage/testing';
import { EngineHost } from './engine-host';
import type { LoadProgress } from './protocol';

export interface TestHost {
  readonly host: EngineHost;
  readonly server: Awaited<ReturnType<typeof startFaultServer>>;
  readonly artifact: ReturnType<typeof tinyArtifact>;
  readonly environment: ReturnType<typeof testEnvironment>;
  /** What the host told of failures. */
  readonly failures: Error[];
  load(options?: {
    contextLength?: number;
    kvCache?: KvCacheChoice;
    checkLayer?: number;
    onProgress?: (progress: LoadProgress) => void;
  }): ReturnType<EngineHost['load']>;
  /** A greedy reply of up to `maxTokens` tokens, and the text that was streamed. */
  ask(text: string, maxTokens?: number, onDelta?: (text: string) => void): ReturnType<EngineHost['chat']>;
}

/** Serves a tiny artifact of these options, or the given one. */
export async function startTestHost(
  gpu: GPU | undefined,
  of: TinyOptions | TinyArtifact = {},
): Promise<TestHost> {
  const artifact = 'files' in of ? of : tinyArtifact(of);
  const server = await startFaultServer(artifact.files);
  const environment = testEnvironment({ fetch });
  const failures: Error[] = [];
  const host = new EngineHost({ gpu, secure: true, storage: environment }, (error) => failures.push(error));
  return {
    ...{ host, server, artifact, environment, failures },
    load: ({ onProgress = () => undefined, ...rest } = {}) =>
      host.load({ url: server.url, ...rest }, onProgress),
    ask: (text, maxTokens = 8, onDelta = () => undefined) =>
      host.chat({ messages: [{ role: 'user', content: text }], sampling: greedy, maxTokens }, onDelta),
  };
}

/** `gpu` with every device it opens passed to `change` first. */
export function gpuWith(gpu: GPU, change: (device: GPUDevice) => void): GPU {
  const requestAdapter: GPU['requestAdapter'] = async (options) => {
    const adapter = await gpu.requestAdapter(options);
    if (!adapter) return null;
    const requestDevice: GPUAdapter['requestDevice'] = async (descriptor) => {
      const device = await adapter.requestDevice(descriptor);
      change(device);
      return device;
    };
    const { features, limits, info } = adapter;
    return { features, limits, info, requestDevice } as GPUAdapter;
  };
  return { requestAdapter, wgslLanguageFeatures: gpu.wgslLanguageFeatures } as GPU;
}

/** `gpu` with one device for all: kernels compile once. Closing it does nothing. */
export function sharedDevice(gpu: GPU): GPU {
  let shared: GPUDevice | undefined;
  const opened = gpuWith(gpu, (device) => {
    device.destroy = () => undefined;
    shared = device;
  });
  return {
    wgslLanguageFeatures: gpu.wgslLanguageFeatures,
    requestAdapter: async (options?: GPURequestAdapterOptions) => {
      const adapter = await opened.requestAdapter(options);
      const requestDevice = async (wanted?: GPUDeviceDescriptor) => shared ?? adapter!.requestDevice(wanted);
      return adapter && { ...adapter, requestDevice };
    },
  } as GPU;
}

/** `gpu` whose drivers compile `from` as if it were `to`, where `applies`. */
export function gpuWithBug(gpu: GPU, applies: (code: string) => boolean, from: RegExp, to: string): GPU {
  return gpuWith(gpu, (device) => {
    const create = device.createShaderModule.bind(device);
    device.createShaderModule = (descriptor) =>
      create(
        applies(descriptor.code) ? { ...descriptor, code: descriptor.code.replace(from, to) } : descriptor,
      );
  });
}
