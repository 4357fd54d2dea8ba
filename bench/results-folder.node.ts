/** Reads and writes the files in bench/results. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseBenchFile } from './bench-file';
import type { BenchFile } from './figures';
import { type OtherEngines, parseOtherEngines } from './other-engines';

/** `nvidia-h200-node-2026-01-31T09-30-00.json`: adapter, runtime and time, safe as a file name. */
export function benchFileName({ adapterName, runtime, date }: BenchFile): string {
  const slug = adapterName
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
  const time = date.slice(0, 19).replaceAll(':', '-');
  return `${slug}-${runtime.kind}-${time}.json`;
}

/** Returns the path written. */
export async function writeBenchFile(folder: string, file: BenchFile): Promise<string> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, benchFileName(file));
  await writeFile(path, `${JSON.stringify(file, null, 1)}\n`);
  return path;
}

/** @throws BenchFileError naming the file */
export async function readBenchFile(path: string): Promise<BenchFile> {
  return parseBenchFile(await readFile(path, 'utf8'), path);
}

/** All results in a folder, newest last; none when the folder does not exist. @throws BenchFileError */
export async function readBenchFolder(folder: string): Promise<BenchFile[]> {
  const files = await Promise.all((await jsonFiles(folder)).map(readBenchFile));
  return files.sort((a, b) => a.date.localeCompare(b.date));
}

/** Other engines' figures, which lie in the folder `others` of the results. @throws BenchFileError */
export async function readOtherEngines(resultsFolder: string): Promise<OtherEngines[]> {
  const paths = await jsonFiles(join(resultsFolder, 'others'));
  return Promise.all(paths.map(async (path) => parseOtherEngines(await readFile(path, 'utf8'), path)));
}

/** In the order of their names; none when the folder does not exist. */
async function jsonFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const json = names.filter((name) => name.endsWith('.json')).sort();
  return json.map((name) => join(folder, name));
}
