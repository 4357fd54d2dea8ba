/** What this package installs and what its page contains: nothing of it runs a script when it is installed. */
import { readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { expect, test } from 'vitest';

interface LockedPackage {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly hasInstallScript?: boolean;
  readonly resolved?: string;
  readonly integrity?: string;
}

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
  packages: Readonly<Record<string, LockedPackage>>;
};
const { dependencies, peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));

/** The locked packages of these names, and what they depend on. */
function closure(names: readonly string[]): Map<string, LockedPackage> {
  const found = new Map<string, LockedPackage>();
  const visit = (name: string, from: string) => {
    const nested = `${from}/node_modules/${name}`;
    const path = nested in packages ? nested : `node_modules/${name}`;
    const entry = packages[path];
    if (!entry) throw new Error(`${name}, needed by ${from || 'this package'}, is not in the lock`);
    if (found.has(path)) return;
    found.set(path, entry);
    for (const dependency of Object.keys(entry.dependencies ?? {})) visit(dependency, path);
  };
  for (const name of names) visit(name, '');
  return found;
}

const statement = /^(?:import|export) (?!type\b)[^;]*? from '([^.'][^']*)';/gm;

/** Names of the packages that the sources in these folders import, tests and their helpers aside. */
function importsOf(folders: readonly string[]): string[] {
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file}`),
  );
  const sources = files.filter((file) => /\.tsx?$/.test(file) && !/test(ing)?\.ts$|\.node\.ts$/.test(file));
  const names = sources
    .flatMap((file) => [...readFileSync(file, 'utf8').matchAll(statement)].map(([, from]) => from!))
    .filter((from) => !isBuiltin(from))
    .map((from) =>
      from
        .split('/')
        .slice(0, from.startsWith('@') ? 2 : 1)
        .join('/'),
    );
  return [...new Set(names)];
}

const installed = Object.keys(dependencies);

test('what an installation brings runs no script, and every package is pinned by its hash', () => {
  const shipped = closure(installed);
  expect(shipped.size).toBeGreaterThan(installed.length);
  expect([...shipped].filter(([, { hasInstallScript }]) => hasInstallScript)).toEqual([]);
  expect([...shipped].filter(([, { integrity }]) => !integrity?.startsWith('sha512-'))).toEqual([]);
});

test('what is bundled into the page, the workers and the command runs no script', () => {
  const bundled = importsOf(['src', 'workers', 'cli']);
  expect(bundled).toEqual(expect.arrayContaining(['preact', 'markdown-it', 'comlink', 'commander']));
  const scripted = [...closure(bundled)].filter(([, { hasInstallScript }]) => hasInstallScript);
  expect(scripted.map(([path]) => path)).toEqual([]);
});

test('the GPU binding for Node is the one optional peer', () => {
  expect(Object.keys(peerDependencies)).toEqual(['webgpu']);
});
