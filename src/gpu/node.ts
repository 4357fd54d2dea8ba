/** WebGPU in Node, through Dawn (npm package `webgpu`), on the machine's GPU or, without one, on SwiftShader. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Gpu, type OpenGpuOptions, openGpu, WebGpuUnavailableError } from './gpu';

interface Dawn {
  create(flags: string[]): GPU;
  globals: Record<string, unknown>;
}

/** Where Debian's chromium package and Chrome keep their software Vulkan driver. */
const swiftShaderIcds = [
  '/usr/lib/chromium/vk_swiftshader_icd.json',
  '/usr/lib/chromium-browser/vk_swiftshader_icd.json',
  '/opt/google/chrome/vk_swiftshader_icd.json',
];

/**
 * SwiftShader unrolls the zeroing of workgroup memory: 0.75 ms of compile time a word, most of a kernel's. Kernels here write
 * that memory before they read it.
 */
const softwareFlags = ['enable-dawn-features=disable_workgroup_init'];

export interface NodeGpuOptions extends OpenGpuOptions {
  /** Allow Dawn's unsafe APIs: experimental features such as subgroup matrices become visible. */
  readonly experimental?: boolean;
  /** Timestamps in nanoseconds instead of multiples of 32 µs (benchmarks). */
  readonly exactTimestamps?: boolean;
}

/** `DAWN_NODE` names a dawn.node file to load where the npm package is not installed. */
async function loadDawn(): Promise<Dawn> {
  const path = process.env.DAWN_NODE;
  if (path) return createRequire(import.meta.url)(path) as Dawn;
  return (await import('webgpu')) as unknown as Dawn;
}

const exactTimestampFlags = ['disable-dawn-features=timestamp_quantization'];
const experimentalFlags = ['enable-dawn-features=allow_unsafe_apis'];

/** Keeps the Dawn instances alive: a device must not outlive the instance it came from. */
const instances: GPU[] = [];

/**
 * Opens a GPU from Node. `MERGEQUANT_ADAPTER=swiftshader` asks for the software adapter; `VK_DRIVER_FILES` is honoured.
 * @throws WebGpuUnavailableError when neither a GPU nor a software driver is there.
 */
export async function openNodeGpu(options: NodeGpuOptions = {}): Promise<Gpu> {
  const flags = [
    ...(options.experimental ? experimentalFlags : []),
    ...(options.exactTimestamps ? exactTimestampFlags : []),
  ];
  return (await openNodeEntry((entry) => openGpu(entry, options), flags)).opened;
}

/** What `navigator.gpu` is in a browser, once `open` has succeeded with it. */
async function openNodeEntry<T>(
  open: (entry: GPU) => Promise<T>,
  extraFlags: readonly string[] = [],
): Promise<{ entry: GPU; opened: T }> {
  const dawn = await loadDawn();
  Object.assign(globalThis, dawn.globals);
  const attempt = async (flags: string[]) => {
    const entry = dawn.create([...flags, ...extraFlags]);
    instances.push(entry);
    return { entry, opened: await open(entry) };
  };
  const software = swiftShaderIcds.find((path) => existsSync(path));
  if (process.env.MERGEQUANT_ADAPTER === 'swiftshader' && software) process.env.VK_DRIVER_FILES = software;
  const isSoftware = process.env.VK_DRIVER_FILES?.includes('swiftshader') ?? false;
  try {
    return await attempt(isSoftware ? softwareFlags : []);
  } catch (error) {
    if (!(error instanceof WebGpuUnavailableError) || process.env.VK_DRIVER_FILES) throw error;
    if (!software) {
      throw new WebGpuUnavailableError(
        'no GPU adapter, and no software driver: install the Debian packages chromium and libvulkan1, or name a Vulkan driver in VK_DRIVER_FILES',
      );
    }
    process.env.VK_DRIVER_FILES = software;
    return attempt(softwareFlags);
  }
}

/** WebGPU's entry point for code that opens devices itself. @throws WebGpuUnavailableError */
export async function nodeGpuEntry(): Promise<GPU> {
  const { entry, opened } = await openNodeEntry((found) => openGpu(found));
  opened.device.destroy();
  return entry;
}
