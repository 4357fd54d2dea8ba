import { expect, test } from 'vitest';
import { RemoteError } from '../../../workers/protocol';
import { Recovery, suggestedContext } from './recovery';

const lost = new RemoteError({ name: 'DeviceLostError', message: 'gone', details: {} });

test('a lost GPU is taken up again once, and once more after a minute', () => {
  const recovery = new Recovery();
  expect(recovery.shouldReload(lost, 0)).toBe(true);
  expect(recovery.shouldReload(lost, 30_000)).toBe(false);
  expect(recovery.shouldReload(lost, 100_000)).toBe(true);
});

test('what a new device does not cure is told', () => {
  const recovery = new Recovery();
  expect(
    recovery.shouldReload(new RemoteError({ name: 'IntegrityError', message: '', details: {} }), 0),
  ).toBe(false);
  expect(recovery.shouldReload('text', 0)).toBe(false);
});

test('a shorter context is suggested where the error carries one', () => {
  const details = { suggestedContextLength: 1024 };
  expect(suggestedContext(new RemoteError({ name: 'ModelTooLargeError', message: '', details }))).toBe(1024);
  expect(suggestedContext(lost)).toBeNull();
  expect(suggestedContext(null)).toBeNull();
});
