#!/usr/bin/env node
// The `mergequant` command. In a checkout it builds dist/cli first when that is missing or older than the sources.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const built = join(root, 'dist/cli/main.js');

/** Modification time of the newest file below `folder`. */
function newestMs(folder) {
  let newest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    newest = Math.max(newest, entry.isDirectory() ? newestMs(path) : statSync(path).mtimeMs);
  }
  return newest;
}

const isCheckout = existsSync(join(root, 'cli/main.ts'));
const lastCommit = join(root, '.git/logs/HEAD'); // changes with it; a build says which commit it is of
const committedMs = () => (existsSync(lastCommit) ? statSync(lastCommit).mtimeMs : 0);
const isStale = () =>
  !existsSync(built) ||
  statSync(built).mtimeMs <
    Math.max(
      committedMs(),
      ...['bench', 'cli', 'src', 'shaders'].map((folder) => newestMs(join(root, folder))),
    );
if (isCheckout && isStale()) {
  const { build } = await import('vite');
  await build({ root, mode: 'cli', logLevel: 'error', configFile: join(root, 'vite.config.ts') });
}
await import(pathToFileURL(built).href);
