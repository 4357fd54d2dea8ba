import { expect, test } from 'vitest';
import { compensationDefaults } from '../src/quantize/compensate';
import { parseCompensation, tryLine } from './compensation';

test('nothing said is the defaults', () => {
  expect(parseCompensation('')).toEqual(compensationDefaults);
});

test('every setting can be given', () => {
  const text = 'rank=16,epochs=3,rate=0.01,decay=0,rows=2,scales=fixed,retries=0,seed=7,device=webgpu';
  const expected = {
    rank: 16,
    epochs: 3,
    rate: 0.01,
    decay: 0,
    batchRows: 2,
    learnScales: false,
    retries: 0,
    seed: 7,
  };
  expect(parseCompensation(text)).toEqual({ ...expected, device: 'webgpu' });
  expect(parseCompensation('rank=full').rank).toBe('full');
  expect(parseCompensation('rows=auto').batchRows).toBe('auto');
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

test('a try in vain is a line, one that served is none', () => {
  expect(tryLine(3, { rate: 0.02, loss: 0.96, next: null })).toBeNull();
  expect(tryLine(3, { rate: 0.02, loss: 1.25, next: 0.005 })).toMatch(
    /^layer 3: .* 0\.02, .* 1\.2500 .* at 0\.005$/,
  );
  expect(tryLine(3, { rate: 0.005, loss: Number.NaN, next: null })).toMatch(/the layer stays as it was made/);
});
