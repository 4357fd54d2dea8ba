import { expect, test } from 'vitest';
import { openNodeGpu } from './node';

test('Node opens a device and leaves out what it is told to leave out', async () => {
  const gpu = await openNodeGpu({ without: ['subgroups'] });
  expect(gpu.caps.subgroups).toBe(false);
  expect(gpu.device.features.has('subgroups')).toBe(false);
  expect(gpu.device.limits.maxStorageBufferBindingSize).toBeGreaterThanOrEqual(128 * 2 ** 20);
});
