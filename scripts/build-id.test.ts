import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildId, buildText, isSameBuild } from '../bench/build-id';
import { version } from '../package.json';
import { checkoutOf } from './build-id';

test('the commit of a checkout, dirty where sources of the build changed; nothing elsewhere', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'checkout-'));
  const git = (...args: string[]) => execFileSync('git', args, { cwd: folder, encoding: 'utf8' }).trim();
  try {
    expect(checkoutOf(folder)).toBeNull();
    git('init', '-q');
    expect(checkoutOf(folder)).toBeNull();
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'src/a.ts'), '1');
    git('add', '.');
    git('-c', 'user.name=a', '-c', 'user.email=a@b.c', 'commit', '-qm', 'first');
    const commit = git('rev-parse', 'HEAD').slice(0, 12);
    expect(checkoutOf(folder)).toEqual({ commit, isDirty: false });
    await writeFile(join(folder, 'notes.md'), 'no source');
    expect(checkoutOf(folder)).toEqual({ commit, isDirty: false });
    await writeFile(join(folder, 'src/b.ts'), 'new');
    expect(checkoutOf(folder)).toEqual({ commit, isDirty: true });
    expect(checkoutOf(join(folder, 'src'))).toBeNull();
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('what runs knows its build', () => {
  expect(buildId).toMatchObject({ version, commit: expect.stringMatching(/^([0-9a-f]{12}|unknown)$/) });
});

test('builds in words, and whether two are the same', () => {
  const build = { version: '1.2.3', commit: '0123456789ab', isDirty: false };
  const changed = { ...build, isDirty: true };
  const other = { ...build, commit: 'ba9876543210' };
  const unknown = { ...build, commit: 'unknown' };
  expect([build, changed, unknown, undefined].map(buildText)).toEqual([
    '1.2.3, commit 0123456789ab',
    '1.2.3, commit 0123456789ab with changes',
    '1.2.3, commit unknown',
    'not noted',
  ]);
  expect([build, other, changed, unknown, undefined].map((b) => isSameBuild(build, b))).toEqual([
    true,
    false,
    null,
    null,
    null,
  ]);
  expect(isSameBuild(unknown, unknown)).toBeNull();
});
