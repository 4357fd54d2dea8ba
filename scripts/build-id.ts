/** Which sources a build is made of, for what measures with it (bench/build-id.ts). */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Checkout {
  /** The first 12 digits of HEAD. */
  readonly commit: string;
  /** Whether sources of the build differ from it. */
  readonly isDirty: boolean;
}

/** A change elsewhere does not change what is measured. */
const sources = [
  ...['bench/*.ts', 'bench/*.tsx', 'bench/shaders', 'bench/suites'],
  ...['cli', 'shaders', 'src', 'workers'],
];
const root = fileURLToPath(new URL('..', import.meta.url));

/** The state of the checkout whose top is `folder`; null where it is none, or where there is no git. */
export function checkoutOf(folder: string): Checkout | null {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    if (git('rev-parse', '--show-prefix') !== '') return null; // a folder in the checkout of something else
    const commit = git('rev-parse', '--short=12', 'HEAD');
    return { commit, isDirty: git('status', '--porcelain', '--', ...sources) !== '' };
  } catch {
    return null; // no git, no checkout, or no commit in it
  }
}

/** What Vite defines for bench/build-id.ts, in the command and in the page alike. */
export function buildDefine(): Record<string, string> {
  return { __CHECKOUT__: JSON.stringify(checkoutOf(root)) };
}
