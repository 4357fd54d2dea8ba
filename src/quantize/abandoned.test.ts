import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { claimFolder, isAbandoned, removeAbandoned, unclaimFolder, workFolder } from './abandoned';

const folder = mkdtempSync(join(tmpdir(), 'abandoned-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A process that has ended. */
const { pid: endedPid } = spawnSync(process.execPath, ['-e', '']);

function made(out: string, suffix: string, change: object | string | null): string {
  const path = workFolder(join(folder, out), 'layers', suffix);
  mkdirSync(path);
  claimFolder(path);
  const owner = join(path, 'owner.json');
  if (typeof change === 'string') writeFileSync(owner, change);
  else if (change) {
    writeFileSync(owner, JSON.stringify({ ...JSON.parse(readFileSync(owner, 'utf8')), ...change }));
  }
  return path;
}

test('only folders whose process has certainly ended are removed, of one output and kind', () => {
  const ended = made('out', 'ended', { pid: endedPid });
  const stay = [
    made('out', 'mine', null),
    made('out', 'parent', { pid: process.ppid }),
    made('out', 'elsewhere', { pid: endedPid, host: 'another-host' }),
    made('out', 'container', { pid: endedPid, pidNamespace: 'pid:[1]' }),
    made('out', 'cut', '{"host":'),
    made('out', 'odd', { pid: -1 }),
    made('out.more', 'ended', { pid: endedPid }),
    made('other', 'ended', { pid: endedPid }),
  ];
  const unclaimed = made('out', 'unclaimed', { pid: endedPid });
  unclaimFolder(unclaimed);
  expect(isAbandoned(ended)).toBe(true);
  expect(removeAbandoned(join(folder, 'out'), 'partial')).toEqual([]);
  expect(removeAbandoned(join(folder, 'out'), 'layers')).toEqual([ended]);
  expect(existsSync(ended)).toBe(false);
  for (const path of [...stay, unclaimed]) expect(existsSync(path), path).toBe(true);
  expect(removeAbandoned(join(folder, 'nowhere', 'out'), 'layers')).toEqual([]);
});
