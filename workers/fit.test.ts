import { expect, test } from 'vitest';
import { tinyManifest } from '../src/format/manifest-fixture';
import { parseManifest } from '../src/format/parse-manifest';
import { BufferArena, GpuMemoryError } from '../src/gpu/arena';
import { checkLimits, ModelTooLargeError, withShorterContext } from './fit';

const wanted = { contextLength: 128, kvCache: 'f16', persistentDecode: false } as const;
const GiB = 2 ** 30;

function thrownBy(action: () => unknown): Error {
  try {
    action();
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}

test('a device that cannot bind a buffer is told in units that people read', () => {
  const manifest = parseManifest(tinyManifest(), 'manifest.json');
  const limits = { maxBufferSize: 2048, maxStorageBufferBindingSize: 1024 };
  const error = thrownBy(() => checkLimits(manifest, wanted, limits, false));
  expect(error).toBeInstanceOf(ModelTooLargeError);
  expect(error.message).toMatch(
    /^this GPU cannot hold the model: .* takes [\d.]+ KiB, and it binds at most 1\.00 KiB;/,
  );
  expect(error.message).not.toMatch(/bytes/);
});

test('so is one whose memory runs out', () => {
  const device = { limits: { maxBufferSize: GiB, maxStorageBufferBindingSize: 2 * GiB } } as GPUDevice;
  const memory = thrownBy(() => new BufferArena(device).create('keys', 3.5 * GiB, { category: 'kv-cache' }));
  expect(memory.message).toBe('GPU buffer keys: 3.50 GiB: this GPU binds at most 1.00 GiB');
  expect(withShorterContext(memory, 4096, false)).toMatchObject({
    name: 'ModelTooLargeError',
    wantedBytes: 3.5 * GiB,
    suggestedContextLength: 2048,
    message:
      'this GPU cannot hold the model: keys takes 3.50 GiB, this GPU binds at most 1.00 GiB; a context of 2048 tokens may fit',
  });
  expect(withShorterContext(new GpuMemoryError('keys', 1, 'full'), 128, false)).toMatchObject({
    suggestedContextLength: null,
  });
});
