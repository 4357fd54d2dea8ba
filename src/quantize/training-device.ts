/** Where training runs: the array library's WebAssembly or, where `navigator.gpu` exists, its WebGPU backend. */
import { defaultDevice, init } from '@jax-js/jax';

export const trainingDevices = ['wasm', 'webgpu'] as const;
export type TrainingDevice = (typeof trainingDevices)[number];

/** Arrays made while `work` runs live on `device`; everything else of this process must wait. @throws Error without it */
export async function onDevice<T>(device: TrainingDevice, work: () => Promise<T>): Promise<T> {
  const devices = await init('wasm', device);
  if (!devices.includes(device)) throw new Error(`jax-js found no ${device} backend on this machine`);
  defaultDevice(device);
  try {
    return await work();
  } finally {
    defaultDevice('wasm');
  }
}
