import { expect, test } from 'vitest';
import type { GpuCaps } from '../../gpu/gpu';
import { defaultShape, namesShape } from './request-link';

const caps = (software: boolean) => ({ software }) as GpuCaps;
const GiB = 2 ** 30;

test.each([
  ['a software adapter', true, 4 * GiB - 4, 'tiny'],
  ['a large GPU', false, 4 * GiB - 4, 'llama-2-7b'],
  ['a GPU with smaller buffers', false, 2 * GiB, '1b'],
  ['the least that WebGPU allows', false, GiB / 4, '1b'],
])('%s measures a shape that suits it', (_, software, maxBufferBytes, shape) => {
  expect(defaultShape({ caps: caps(software), maxBufferBytes })).toBe(shape);
});

test('an address that names a shape decides; one that names none, or no known one, does not', () => {
  expect(['?shape=1b', '?shape=llama-2-7b&run'].map(namesShape)).toEqual([true, true]);
  expect(['', '?shape=', '?shape=toString', '?suites=decode'].map(namesShape)).toEqual(Array(4).fill(false));
});
