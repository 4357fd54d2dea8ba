/** Folders that a killed process left beside its output: each says who works in it, so that a later run can tell. Node only. */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

/** Half-written artifacts are of no use to anybody; finished layers serve a run that goes on. */
export type WorkFolder = 'partial' | 'layers';

interface Owner {
  readonly host: string;
  /** Linux: numbers mean the same process within one of these only; null elsewhere. */
  readonly pidNamespace: string | null;
  readonly pid: number;
}

/** `.<output>.<kind>-<suffix>`, beside the output. */
export function workFolder(out: string, kind: WorkFolder, suffix: string): string {
  const target = resolve(out);
  return join(dirname(target), `.${basename(target)}.${kind}-${suffix}`);
}

function pidNamespace(): string | null {
  const path = '/proc/self/ns/pid';
  return existsSync(path) ? readlinkSync(path) : null;
}

function ownerPath(folder: string): string {
  return join(folder, 'owner.json');
}

/** Says that this process works in `folder`. */
export function claimFolder(folder: string): void {
  const owner: Owner = { host: hostname(), pidNamespace: pidNamespace(), pid: process.pid };
  writeFileSync(ownerPath(folder), JSON.stringify(owner));
}

/** Takes that back: the folder is to hold what others read. */
export function unclaimFolder(folder: string): void {
  rmSync(ownerPath(folder), { force: true });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'; // EPERM: it runs, as somebody else
  }
}

/** Whether the process that worked in `folder` has certainly ended; false where that cannot be told from here. */
export function isAbandoned(folder: string): boolean {
  let owner: Owner;
  try {
    owner = JSON.parse(readFileSync(ownerPath(folder), 'utf8')) as Owner;
  } catch {
    return false;
  }
  if (owner.host !== hostname() || owner.pidNamespace !== pidNamespace()) return false;
  return Number.isSafeInteger(owner.pid) && owner.pid > 0 && !isRunning(owner.pid);
}

/** Removes what killed runs left half-written beside an output, and says so. */
export function removeHalfWritten(out: string, onNotice?: (notice: string) => void): void {
  for (const folder of removeAbandoned(out, 'partial')) {
    onNotice?.(`removed ${folder}: the half-written artifact of a run that was killed`);
  }
}

/** Removes an output's folders of a kind that are abandoned. @returns those */
export function removeAbandoned(out: string, kind: WorkFolder): readonly string[] {
  const start = workFolder(out, kind, '');
  const folder = dirname(start);
  if (!existsSync(folder)) return [];
  const found = readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((path) => path.startsWith(start) && isAbandoned(path));
  for (const path of found) rmSync(path, { recursive: true, force: true });
  return found;
}
