import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { checkTensorValues } from '../../src/format/check-values';
import { LocatedError, ManifestError } from '../../src/format/errors';
import type { FileEntry, Manifest } from '../../src/format/manifest';
import { parseSafetensorsHeader } from '../../src/format/safetensors';
import { ShardTensorCheck } from '../../src/format/shard-tensors';
import { bytesText } from '../../src/gpu/bytes-text';
import { readArtifactFile, readManifest } from '../artifact-folder';
import { print } from '../text';

/** What a good artifact consists of. */
export interface VerifyReport {
  readonly ok: true;
  readonly name: string;
  readonly scheme: string;
  readonly files: number;
  readonly bytes: number;
  readonly tensors: number;
}

/** `mergequant verify`: exit code 0 for an artifact that is whole, 1 and the first thing wrong otherwise. */
export function register(program: Command): void {
  program
    .command('verify')
    .description('check an artifact: manifest, sizes, SHA-256, safetensors headers, tensors and their values')
    .argument('<artifact>', 'folder with a manifest.json')
    .option('--json', 'print {"ok",…}; on failure {"ok":false,"error"} as well as the message')
    .action(runVerify);
}

async function runVerify(folder: string, flags: { json?: boolean }): Promise<void> {
  try {
    const report = await verifyArtifact(folder);
    const { name, scheme, files, bytes, tensors } = report;
    const text = `${name}: good. ${scheme}, ${tensors} tensors in ${files} files, ${bytesText(bytes)}`;
    print(flags.json ? JSON.stringify(report) : text);
  } catch (error) {
    if (flags.json) print(JSON.stringify({ ok: false, error: errorJson(error) }));
    throw error;
  }
}

function errorJson(error: unknown): Record<string, string> {
  if (!(error instanceof LocatedError)) return { message: String(error) };
  const { name, message, file, where, expected, found } = error;
  return { name, message, file, where, expected, found };
}

/**
 * Checks everything about the artifact in `folder`, one file in memory at a time.
 * @throws ManifestError, SafetensorsError: the first thing that is wrong
 */
export async function verifyArtifact(folder: string): Promise<VerifyReport> {
  const manifest = await readManifest(folder);
  const files = [...manifest.tokenizerFiles, ...manifest.shards];
  for (const entry of files) await checkSize(folder, entry); // all of them before the first is hashed
  for (const entry of manifest.tokenizerFiles) await readVerified(folder, entry);
  const tensors = await checkShards(folder, manifest);
  const bytes = files.reduce((sum, entry) => sum + entry.bytes, 0);
  return { ok: true, name: manifest.name, scheme: manifest.scheme, files: files.length, bytes, tensors };
}

async function checkShards(folder: string, manifest: Manifest): Promise<number> {
  const check = new ShardTensorCheck(manifest);
  let tensors = 0;
  for (const entry of manifest.shards) {
    const bytes = await readVerified(folder, entry);
    const header = parseSafetensorsHeader(bytes, bytes.length, entry.name);
    for (const { stored, begin, end } of check.add({ file: entry.name, header })) {
      checkTensorValues(stored, bytes.subarray(begin, end), manifest.config.hiddenSize, entry.name);
      tensors++;
    }
  }
  check.finish();
  return tensors;
}

function refuse(file: string, expected: string, found: string): never {
  throw new ManifestError({ file, where: '', expected, found });
}

async function checkSize(folder: string, { name, bytes }: FileEntry): Promise<void> {
  const path = join(folder, name);
  const found = await stat(path).catch(() => null);
  if (!found?.isFile()) return refuse(path, `a file of ${bytes} bytes`, 'no such file');
  if (found.size !== bytes) refuse(path, `${bytes} bytes, as the manifest says`, `${found.size} bytes`);
}

async function readVerified(folder: string, { name, sha256 }: FileEntry): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await readArtifactFile(folder, name);
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== sha256) refuse(join(folder, name), `SHA-256 ${sha256}`, found);
  return bytes;
}
