/** GPUs for tests. Most of a test's time on a software adapter is compiling: a file compiles nothing twice. */
import type { Gpu } from './gpu';
import { type NodeGpuOptions, openNodeGpu } from './node';

const devices = new Map<string, Promise<Gpu>>();

/** One device a file for all options that differ in nothing its shaders see. Nobody may destroy it. */
export async function openTestGpu({ software, ...options }: NodeGpuOptions = {}): Promise<Gpu> {
  const key = JSON.stringify(options);
  let opening = devices.get(key);
  if (!opening) {
    opening = openNodeGpu(options).then(remembering);
    devices.set(key, opening);
  }
  const gpu = await opening;
  return software === undefined ? gpu : { ...gpu, caps: { ...gpu.caps, software } };
}

/** A GPU whose driver compiles `from` as if it were `to`; counts the shaders this changed. The others are the test GPU's own. */
export async function openGpuWithBug(from: RegExp, to: string): Promise<{ gpu: Gpu; changed: () => number }> {
  const gpu = await openTestGpu({ software: false });
  let changed = 0;
  const createShaderModule: GPUDevice['createShaderModule'] = (descriptor) => {
    const code = descriptor.code.replace(from, to);
    if (code !== descriptor.code) changed++;
    return gpu.device.createShaderModule({ ...descriptor, code });
  };
  const device = new Proxy(gpu.device, {
    get(target, name) {
      if (name === 'createShaderModule') return createShaderModule;
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { gpu: { ...gpu, device }, changed: () => changed };
}

/** Makes a device find the pipelines that it compiled before, whoever asks for them. */
function remembering(gpu: Gpu): Gpu {
  const { device } = gpu;
  const codes = new WeakMap<GPUShaderModule, string>();
  const pipelines = new Map<string, Promise<GPUComputePipeline>>();
  const createShaderModule = device.createShaderModule.bind(device);
  device.createShaderModule = (descriptor) => {
    const module = createShaderModule(descriptor);
    codes.set(module, descriptor.code);
    return module;
  };
  const compile = device.createComputePipelineAsync.bind(device);
  device.createComputePipelineAsync = (descriptor) => {
    const { module, constants } = descriptor.compute;
    const key = `${JSON.stringify(constants)}\n${codes.get(module)}`;
    let pipeline = pipelines.get(key);
    if (!pipeline) {
      pipeline = compile(descriptor);
      pipelines.set(key, pipeline);
    }
    return pipeline;
  };
  return gpu;
}
