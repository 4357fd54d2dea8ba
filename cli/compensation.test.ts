import { expect, test } from 'vitest';
import { compensationDefaults } from '../src/quantize/compensate';
import { parseCompensation } from './compensation';

test('nothing said is the defaults', () => {
  expect(parseCompensation('')).toEqual(compensationDefaults);
});

test('every setting can be given', () => {
  const text = 'rank=16,epochs=3,rate=0.01,decay=0,rows=2,scales=fixed,seed=7,device=webgpu';
  const expected = { rank: 16, epochs: 3, rate: 0.01, decay: 0, batchRows: 2, learnScales: false, seed: 7 };
  expect(parseCompensation(text)).toEqual({ ...expected, device: 'webgpu' });
  expect(parseCompensation('rank=full').rank).toBe('full');
});

test.each([
  { text: 'epoch=3', message: /expected rank, epochs, .* found "epoch"/ },
  { text: 'toString=3', message: /found "toString"/ },
  { text: 'rank=0', message: /rank: expected a whole number of at least 1, found "0"/ },
  { text: 'epochs=', message: /epochs: expected a whole number/ },
  { text: 'rate=-1', message: /rate: expected a number/ },
  { text: 'scales=yes', message: /scales: expected learned or fixed, found "yes"/ },
])('$text is refused', ({ text, message }) => {
  expect(() => parseCompensation(text)).toThrow(message);
});
