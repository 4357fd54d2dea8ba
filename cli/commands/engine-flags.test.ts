/** What the flags of `generate` and `serve` ask of the engine, without one. */
import { Command } from 'commander';
import { afterEach, expect, test, vi } from 'vitest';
import { loadModel } from '../load-model';
import { createEngine } from '../node-engine';
import { register as generate } from './generate';
import { register as serve } from './serve';

vi.mock('../load-model', () => ({ loadModel: vi.fn() }));
vi.mock('../node-engine', () => ({ createEngine: vi.fn() }));
afterEach(() => {
  vi.resetAllMocks();
});

async function run(...args: string[]): Promise<void> {
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
  for (const register of [generate, serve]) register(program);
  for (const command of program.commands) command.exitOverride().copyInheritedSettings(program);
  await program.parseAsync(args, { from: 'user' });
}

/** Ends a command as soon as it asks for a model. */
const asked = new Error('asked for a model');

test.each([
  [['--chunk-tokens', '64', '--context', '512', '--kv-cache', 'int8', '--persistent'], 64, 512, 'int8', true],
  [[], undefined, undefined, 'auto', false],
])('%j reaches the engine', async (flags, chunkTokens, contextLength, kvCache, persistentDecode) => {
  const expected = { chunkTokens, contextLength, kvCache, persistentDecode };
  vi.mocked(loadModel).mockRejectedValue(asked);
  await expect(run('generate', 'folder', '--chat', 'Hi', ...flags)).rejects.toBe(asked);
  expect(loadModel).toHaveBeenCalledWith('folder', expect.objectContaining(expected));
  vi.mocked(createEngine).mockRejectedValue(asked);
  await expect(run('serve', 'folder', ...flags)).rejects.toBe(asked);
  expect(createEngine).toHaveBeenCalledWith({ model: 'folder', ...expected });
});

test.each(['0', '-1', '1.5', 'many', ''])('--chunk-tokens %j is refused', async (text) => {
  for (const command of [
    ['generate', 'folder', '--chat', 'Hi'],
    ['serve', 'folder'],
  ]) {
    await expect(run(...command, '--chunk-tokens', text)).rejects.toThrow(
      /chunk-tokens.*expected a whole number of at least 1/,
    );
  }
  expect(loadModel).not.toHaveBeenCalled();
  expect(createEngine).not.toHaveBeenCalled();
});
