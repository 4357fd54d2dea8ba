import { expect, test } from 'vitest';
import { GpuMemoryError } from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import { openNodeGpu } from '../gpu/node';
import { raggedLayout } from './testing';
import { WeightsLoader } from './weights-loader';

test('a buffer over the limits leaves no buffer and no error scope behind', async () => {
  const { device, ...rest } = await openNodeGpu();
  const made: GPUBuffer[] = [];
  const destroyed = new Set<GPUBuffer>();
  const small = new Proxy(device, {
    get: (target, name) => {
      if (name === 'limits') return { maxBufferSize: 10_000, maxStorageBufferBindingSize: 10_000 };
      const value = Reflect.get(target, name, target);
      if (name !== 'createBuffer') return typeof value === 'function' ? value.bind(target) : value;
      return (descriptor: GPUBufferDescriptor) => {
        const buffer = target.createBuffer(descriptor);
        const destroy = buffer.destroy.bind(buffer);
        buffer.destroy = () => {
          destroyed.add(buffer);
          return destroy();
        };
        made.push(buffer);
        return buffer;
      };
    },
  });
  const gpu: Gpu = { ...rest, device: small };
  expect(() => WeightsLoader.create(gpu, raggedLayout('mergequant'))).toThrow(GpuMemoryError);
  expect(made.length).toBeGreaterThan(1); // the embedding fits, gate,up does not
  expect(destroyed).toEqual(new Set(made));
  await expect(device.popErrorScope()).rejects.toThrow(); // the stack is empty
});
