/** The `--device` option: where prepare runs its heavy parts. */
import { Option } from 'commander';
import { openNodeGpu } from '../src/gpu/node';
import type { Stopwatch } from '../src/quantize/stopwatch';
import { GpuLayerDevice } from '../src/quantize-gpu/gpu-device';
import { numberBetween } from './options';

export interface DeviceFlags {
  readonly device: 'host' | 'gpu';
  /** GiB of activations that stay on the GPU. */
  readonly gpuMemory: number;
}

export const deviceOption = new Option(
  '--device <name>',
  'where passes, Hessians, GPTQ and clip searches run',
)
  .choices(['host', 'gpu'])
  .default('host');

export const gpuMemoryOption = new Option(
  '--gpu-memory <GiB>',
  'activations that stay on the GPU; the rest is spilled to memory, or to --spill',
)
  .default(16)
  .argParser(numberBetween(0, 4096));

/** The GPU's device, or undefined for the host. @throws WebGpuUnavailableError without a GPU and without SwiftShader */
export async function openLayerDevice(
  { device, gpuMemory }: DeviceFlags,
  stopwatch?: Stopwatch,
): Promise<GpuLayerDevice | undefined> {
  if (device === 'host') return undefined;
  const gpu = await openNodeGpu();
  return new GpuLayerDevice(gpu, { residentBytes: gpuMemory * 2 ** 30, ...(stopwatch && { stopwatch }) });
}
