import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ManifestError, SafetensorsError } from '../../src/format/errors';
import { headerOf, tinyLayout, tinyManifest, tinyShards } from '../../src/format/manifest-fixture';
import { type SchemeName, schemeNames } from '../../src/format/scheme';
import { shardName } from '../../src/format/shards';
import type { WeightGrid } from '../../src/format/weight-grid';
import { table } from '../text';
import { register as inspect } from './inspect';
import { register as plan } from './plan';
import { register as verify, verifyArtifact } from './verify';

let folder: string;
let output: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mergequant-artifact-'));
  output = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    output += text;
    return true;
  });
});

afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Writes a small artifact; `change` may spoil a shard before it is hashed. */
async function writeArtifact(
  scheme: SchemeName,
  change: (shard: Uint8Array, index: number) => Uint8Array = (shard) => shard,
  grid: WeightGrid | null = null,
): Promise<void> {
  const shards = [];
  for (const [i, tensors] of tinyShards(scheme, grid).entries()) {
    const parts = tensors.map(({ name, bytes }) => {
      const values = new Float32Array(bytes / 4);
      return new Uint8Array((/\.(scale|grid)$/.test(name) ? values.fill(0.5) : values).buffer);
    });
    const bytes = change(Buffer.concat([headerOf(tensors), ...parts]), i);
    await writeFile(join(folder, shardName(i)), bytes);
    shards.push({ name: shardName(i), bytes: bytes.length, sha256: sha256(bytes) });
  }
  const tokenizer = new TextEncoder().encode('{"model":1}');
  await writeFile(join(folder, 'tokenizer.json'), tokenizer);
  const tokenizerFiles = [{ name: 'tokenizer.json', bytes: tokenizer.length, sha256: sha256(tokenizer) }];
  const manifest = { ...tinyLayout(scheme, grid), shards, tokenizerFiles };
  await writeFile(join(folder, 'manifest.json'), JSON.stringify(manifest));
}

async function run(...args: string[]): Promise<void> {
  const program = new Command();
  for (const register of [inspect, verify, plan]) register(program);
  await program.parseAsync(args, { from: 'user' });
}

describe('verify', () => {
  test.each(schemeNames)('a whole %s artifact is good', async (scheme) => {
    await writeArtifact(scheme);
    await run('verify', folder, '--json');
    const tensors = tinyShards(scheme).flat().length;
    expect(JSON.parse(output)).toMatchObject({ ok: true, name: 'tiny', scheme, tensors });
  });

  test('3-bit weights are good, and what they weigh is said', async () => {
    await writeArtifact('mergequant', undefined, { groupSize: 64 });
    await run('verify', folder, '--json');
    expect(JSON.parse(output)).toMatchObject({ ok: true, scheme: 'mergequant' });
    output = '';
    await run('inspect', folder);
    expect(output).toContain('(format version 2)');
    expect(output).toContain('mergequant, W3A4');
    expect(output).toContain('weight levels   8 with a zero point, a step for each 64 inputs of a row');
    output = '';
    await run('inspect', folder, '--json');
    const weightBytes = (3 * (96 * 96 + 64 * 64 + 344 * 64 + 64 * 192)) / 8; // K' 96 behind the norm of qkv
    const gridBytes = 4 * (2 * 96 + 1 * 64 + 1 * 344 + 3 * 64);
    const weights = 96 * 64 + 64 * 64 + 344 * 64 + 64 * 172;
    expect(JSON.parse(output).bitsPerLinearWeight).toBeCloseTo((8 * (weightBytes + gridBytes)) / weights, 12);
  });

  test('says so in words', async () => {
    await writeArtifact('mergequant');
    await run('verify', folder);
    expect(output).toMatch(/^tiny: good\. mergequant, \d+ tensors in \d+ files, \d+\.\d\d KiB\n$/);
  });

  const shard1 = 'shard-00001.safetensors';
  test.each<[string, () => Promise<unknown>, RegExp]>([
    [
      'no manifest',
      () => rm(join(folder, 'manifest.json')),
      /manifest\.json: expected a file.*found no such file/,
    ],
    [
      'no JSON',
      () => writeFile(join(folder, 'manifest.json'), '{'),
      /manifest\.json: expected JSON in UTF-8/,
    ],
    [
      'a manifest that lies',
      () => writeFile(join(folder, 'manifest.json'), JSON.stringify({ ...tinyManifest(), scheme: 'fp16' })),
      /manifest\.json: quant: expected null/,
    ],
    [
      'a missing shard',
      () => rm(join(folder, shard1)),
      /shard-00001.*expected a file of \d+ bytes, found no such file/,
    ],
    [
      'a short shard',
      () => truncate(join(folder, shard1), 5000),
      /shard-00001.*as the manifest says, found 5000 bytes/,
    ],
    [
      'a changed tokenizer',
      () => writeFile(join(folder, 'tokenizer.json'), '{"model":2}'),
      /tokenizer\.json: expected SHA-256/,
    ],
  ])('%s is refused', async (_, spoil, message) => {
    await writeArtifact('mergequant');
    await spoil();
    await expect(verifyArtifact(folder)).rejects.toThrow(ManifestError);
    await expect(verifyArtifact(folder)).rejects.toThrow(message);
  });

  /** Bytes changed in the shards, with hashes that agree. */
  const replaceText = (from: string, to: string) => (shard: Uint8Array) => {
    const at = Buffer.from(shard).indexOf(from);
    if (at >= 0) shard.set(new TextEncoder().encode(to), at);
    return shard;
  };
  test.each<[string, SchemeName, (shard: Uint8Array, i: number) => Uint8Array, RegExp]>([
    ['a broken header', 'fp16', replaceText('{"', '["'), /shard-00001\.safetensors: header: expected JSON/],
    [
      'a renamed tensor',
      'fp16',
      replaceText('final_norm', 'finest_nor'),
      /finest_nor\.weight: .*an unknown tensor/,
    ],
    ['another dtype', 'fp16', replaceText('"F16"', '"I16"'), /shard-00001.*expected F16 .* found I16/],
    [
      'a value that is not finite',
      'mergequant-static',
      (shard, i) => (i === 0 ? shard.fill(0xff, shard.length - 4) : shard),
      /shard-00001\.safetensors: .*\[\d+\]: expected a finite/,
    ],
  ])('%s is refused though all hashes agree', async (_, scheme, change, message) => {
    await writeArtifact(scheme, change);
    const error = await verifyArtifact(folder).catch((reason: unknown) => reason);
    expect(error instanceof ManifestError || error instanceof SafetensorsError).toBe(true);
    expect(String(error)).toMatch(message);
  });

  test('one flipped bit is found, and --json says where', async () => {
    await writeArtifact('mergequant');
    const path = join(folder, 'shard-00002.safetensors');
    const bytes = await readFile(path);
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(path, bytes);
    await expect(run('verify', folder, '--json')).rejects.toThrow(
      /shard-00002\.safetensors: expected SHA-256/,
    );
    expect(JSON.parse(output)).toMatchObject({ ok: false, error: { name: 'ManifestError' } });
  });
});

describe('inspect', () => {
  test('the JSON is the manifest and what follows from it', async () => {
    await writeArtifact('mergequant');
    await run('inspect', folder, '--json');
    const facts = JSON.parse(output);
    expect(facts.modes).toEqual({ norm: 'static', projection: 'dynamic' });
    // embedding and head, two layers of qkv 96·64, o 64·64, gate_up 344·64, down 64·172 and two norms, the last norm
    expect(facts.parameters).toBe(2 * 512 * 64 + 2 * (96 * 64 + 64 * 64 + 344 * 64 + 64 * 172 + 2 * 64) + 64);
    const weightBytes = (96 * 96 + 64 * 64 + 344 * 64 + 64 * 192) / 2;
    const linearBits = 8 * (weightBytes + 4 * (96 + 64 + 344 + 64));
    expect(facts.bitsPerLinearWeight).toBeCloseTo(linearBits / (96 * 64 + 64 * 64 + 344 * 64 + 64 * 172), 12);
    expect(facts.quant.layers).toHaveLength(2);
  });

  test('the text names scheme, layers, files and provenance', async () => {
    await writeArtifact('mergequant');
    await run('inspect', folder);
    expect(output).toContain('mergequant, W4A4');
    expect(output).toContain('static behind norms, dynamic in front of o and down');
    expect(output).toMatch(/\n +0 +96 +64 +none +– +– +1 +0\.8 +1 +0\.7\n/);
    expect(output).toContain('shard-00001.safetensors');
    expect(output).toContain('tool: "test"');
  });

  test('clip ratios of the provenance become means, layer by layer', async () => {
    await writeArtifact('mergequant');
    const path = join(folder, 'manifest.json');
    const manifest = JSON.parse(await readFile(path, 'utf8'));
    manifest.provenance.clipRatios = {
      ratios: [1, 0.5],
      attn: [[48, 16], null],
      mlp: [
        [0, 64],
        [64, 0],
      ],
    };
    await writeFile(path, JSON.stringify(manifest));
    await run('inspect', folder);
    expect(output).toMatch(/\n +0 +96 +64 +none +0\.88 +0\.50 +1 /);
    expect(output).toMatch(/\n +1 +96 +64 +none +– +1\.00 +1 /);
    expect(output).not.toContain('clipRatios');
  });

  test('fp16 has no layers to list', async () => {
    await writeArtifact('fp16');
    await run('inspect', folder);
    expect(output).toContain('16.000 bits a weight');
    expect(output).not.toContain("K' attn");
  });
});

describe('plan', () => {
  test('Llama-2-7B in words', async () => {
    await run('plan', '--shape', 'llama-2-7b', '--scheme', 'mergequant', '--context', '2048');
    expect(output).toContain('W4A4, 2048 tokens of context (int8 key-value cache)');
    expect(output).toMatch(/kv-cache +528\.00 MiB/);
    expect(output).toMatch(/WebGPU default +128\.00 MiB +256\.00 MiB +yes/);
  });

  test('a config.json, 8-bit activations, as JSON', async () => {
    const path = new URL('../../models/demo-chat-8m/config.json', import.meta.url).pathname;
    await run('plan', '--shape', path, '--act-bits', '8', '--json');
    expect(JSON.parse(output)).toMatchObject({
      actBits: 8,
      contextLength: 1024,
      config: { hiddenSize: 256 },
    });
  });

  test('3-bit weights in groups of 128', async () => {
    const config = ['--shape', 'llama-2-7b', '--scheme', 'rtn-dynamic'];
    await run('plan', ...config, '--weight-bits', '3', '--group-size', '128', '--json');
    const { buffers, weightBits } = JSON.parse(output);
    expect(weightBits).toBe(3);
    const bytesOf = (label: string) => buffers.find((b: { label: string }) => b.label === label).totalBytes;
    expect(bytesOf('layers.*.down.weight')).toBe((32 * 4096 * 11008 * 3) / 8);
    expect(bytesOf('layers.*.down.grid')).toBe(32 * 4096 * 86 * 4);
    await expect(run('plan', ...config, '--group-size', '100')).rejects.toThrow(
      /a multiple of 32 .*found 100/,
    );
  });

  test('a shape that is neither is refused by name', async () => {
    await expect(run('plan', '--shape', 'gpt-5')).rejects.toThrow(
      /gpt-5: expected llama-2-7b, .*or a config\.json/,
    );
  });

  test('a context beyond the model is refused', async () => {
    await expect(run('plan', '--shape', 'llama-2-7b', '--context', '4097')).rejects.toThrow(
      /4096 tokens, found 4097/,
    );
  });
});

describe('text', () => {
  test('columns are aligned, numbers to the right', () => {
    const lines = table(
      ['name', 'n'],
      [
        ['a', '7'],
        ['bcdef', '123'],
      ],
    ).split('\n');
    expect(lines).toEqual(['name     n', '-----  ---', 'a        7', 'bcdef  123']);
  });
});
