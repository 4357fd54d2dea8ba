import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { LlamaConfig } from '../format/config';
import { parseSafetensorsHeader } from '../format/safetensors';
import { checkShardTensors } from '../format/shard-tensors';
import { floats, readArtifact } from './artifact-reader';
import { byteRows } from './export';
import { artifactModel, logits } from './fake-forward';
import { type PrepareOptions, prepareDefaults, runPrepare } from './prepare';
import { Stopwatch } from './stopwatch';
import { type RandomCheckpointOptions, tinyConfig, writeRandomCheckpoint } from './testing';

let folder: string;
let text: string;
let chat: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'prepare-'));
  text = join(folder, 'text.txt');
  chat = join(folder, 'chat.jsonl');
  const words = 'The ship sailed on 7 seas, and nobody knew why it returned so late; the captain laughed. ';
  writeFileSync(text, Array.from({ length: 60 }, (_, i) => words.slice(i % 40)).join('\n'));
  const messages = [
    { role: 'user', content: 'Where is the harbour?' },
    { role: 'assistant', content: 'Down the road.' },
  ];
  writeFileSync(chat, `${JSON.stringify({ messages })}\n\n${JSON.stringify({ messages })}\n`);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

let counter = 0;
function freshPath(): string {
  counter++;
  return join(folder, `case-${counter}`);
}

/** A random checkpoint and options to prepare it, quick. */
function setup(
  config: Partial<LlamaConfig>,
  random: RandomCheckpointOptions,
  options: Partial<PrepareOptions>,
): PrepareOptions {
  const checkpoint = freshPath();
  writeRandomCheckpoint(checkpoint, config, random);
  return {
    ...prepareDefaults,
    samples: 8,
    sequence: 64,
    // the probe's random tokens are nothing like the calibration text, which GPTQ would be fitted to
    weights: 'rtn',
    calibration: [text, chat],
    checkpoint,
    out: freshPath(),
    ...options,
  };
}

/** Folders next to `out` that start like its temporary ones; finished layers are meant to stay. */
function leftovers(): string[] {
  return readdirSync(folder).filter((name) => name.startsWith('.') && !name.includes('.layers-'));
}

/** Folders of finished layers. */
function kept(): string[] {
  return readdirSync(folder).filter((name) => name.includes('.layers-'));
}

function expectWholeArtifact(out: string): void {
  const { manifest } = readArtifact(out);
  const files = [...manifest.shards, ...manifest.tokenizerFiles];
  expect(readdirSync(out).sort()).toEqual([...files.map(({ name }) => name), 'manifest.json'].sort());
  for (const { name, bytes, sha256 } of files) {
    const content = readFileSync(join(out, name));
    expect(content.length).toBe(bytes);
    expect(createHash('sha256').update(content).digest('hex')).toBe(sha256);
  }
  const headers = manifest.shards.map(({ name, bytes }) => ({
    file: name,
    header: parseSafetensorsHeader(readFileSync(join(out, name)), bytes, name),
  }));
  checkShardTensors(manifest, headers);
  expect(leftovers()).toEqual([]);
  expect(kept().filter((name) => name.startsWith(`.${basename(out)}.`))).toEqual([]);
}

const probe = [Array.from({ length: 24 }, (_, t) => (t === 0 ? 1 : (t * 83) % 512))];

/** Cosine of the quantized model's logits with those of the same checkpoint's fp16 artifact. */
async function similarity(options: PrepareOptions): Promise<number> {
  const reference = { ...options, scheme: 'fp16', out: freshPath() } as const;
  await runPrepare(reference);
  const [a, b] = [options.out, reference.out].map((out) => artifactModel(readArtifact(out)));
  const x = (await logits(a!, probe))[0]!.data;
  const y = (await logits(b!, probe))[0]!.data;
  const dot = (u: Float32Array, v: Float32Array) => u.reduce((sum, value, i) => sum + value * v[i]!, 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
}

const outliers = { 3: 24, 17: 40 };

describe('every scheme, source and mode makes a whole artifact that computes what the checkpoint does', () => {
  // A random two-layer model amplifies rounding more than a trained one: 4-bit activations land near 0.95, 8-bit near
  // 0.98. A wrong scale, gather, fold or order gives about 0.
  test.each<{
    label: string;
    config?: Partial<LlamaConfig>;
    random?: RandomCheckpointOptions;
    options: Partial<PrepareOptions>;
    least: number;
  }>([
    {
      label: 'rtn-dynamic, F16, 2 shards',
      random: { shards: 2 },
      options: { scheme: 'rtn-dynamic' },
      least: 0.9,
    },
    { label: 'rtn-dynamic uncalibrated', options: { scheme: 'rtn-dynamic', calibration: [] }, least: 0.85 },
    {
      label: 'tensor-static, F32',
      random: { dtype: 'F32' },
      options: { scheme: 'tensor-static' },
      least: 0.85,
    },
    {
      label: 'mergequant, BF16, 3 shards, outliers',
      random: { dtype: 'BF16', shards: 3, outliers },
      options: {},
      least: 0.9,
    },
    {
      label: 'mergequant, 8 bits, tied, biases, llama3 rope',
      config: {
        tieWordEmbeddings: true,
        attentionBias: true,
        mlpBias: true,
        ropeScaling: {
          type: 'llama3',
          factor: 8,
          lowFreqFactor: 1,
          highFreqFactor: 4,
          originalMaxPositionEmbeddings: 64,
        },
      },
      options: { actBits: 8 },
      least: 0.95,
    },
    {
      label: 'mergequant, segment, 4 bits, outliers',
      random: { outliers },
      options: { reconstruct: 'segment', alpha: 2 },
      least: 0.9,
    },
    {
      label: 'mergequant, segment, 8 bits, outliers',
      random: { outliers },
      options: { reconstruct: 'segment', alpha: 2, actBits: 8 },
      least: 0.95,
    },
    {
      label: 'mergequant, prune, outliers',
      random: { outliers },
      options: { reconstruct: 'prune', alpha: 2 },
      least: 0.7,
    },
    { label: 'mergequant, none', options: { reconstruct: 'none' }, least: 0.9 },
    {
      label: 'mergequant-static, GQA, biases',
      config: { attentionBias: true, mlpBias: true },
      options: { scheme: 'mergequant-static' },
      least: 0.85,
    },
    {
      label: 'mergequant-static, 8 bits, one head, ragged sizes',
      config: { hiddenSize: 50, numHeads: 5, numKvHeads: 5, headDim: 6, intermediateSize: 33 },
      options: { scheme: 'mergequant-static', actBits: 8 },
      least: 0.95,
    },
  ])('$label', async ({ config = {}, random = {}, options, least }) => {
    const prepared = setup(config, random, options);
    const summary = await runPrepare(prepared);
    expectWholeArtifact(prepared.out);
    expect(summary.layers.length).toBe(2);
    expect(await similarity(prepared)).toBeGreaterThan(least);
  });
});

test.each(['F32', 'F16', 'BF16'] as const)('fp16 keeps %s weights to float16 precision', async (dtype) => {
  const options = setup({}, { dtype, shards: 2 }, { scheme: 'fp16', calibration: [] });
  await runPrepare(options);
  expectWholeArtifact(options.out);
  const artifact = readArtifact(options.out);
  const { Checkpoint } = await import('./checkpoint');
  const checkpoint = await Checkpoint.open(options.checkpoint);
  for (const name of [
    'embed.weight',
    'layers.1.qkv.weight',
    'layers.0.gate_up.weight',
    'layers.1.mlp_norm.weight',
  ]) {
    const source = await checkpoint.tensor(name);
    floats(artifact, name).forEach((value, i) => {
      // half a unit in the last of 11 bits, or half the smallest subnormal
      expect(Math.abs(value - source[i]!)).toBeLessThanOrEqual(Math.abs(source[i]!) * 2 ** -11 + 2 ** -25);
    });
  }
  await checkpoint.close();
});

test('embedding and head as bytes are within half a step of the checkpoint', async () => {
  const options = setup({}, { dtype: 'F32' }, { scheme: 'rtn-dynamic', embeddingBits: 8, headBits: 8 });
  await runPrepare(options);
  expectWholeArtifact(options.out);
  const artifact = readArtifact(options.out);
  expect(artifact.manifest).toMatchObject({ version: 2, embeddingBits: 8, headBits: 8 });
  const { Checkpoint } = await import('./checkpoint');
  const checkpoint = await Checkpoint.open(options.checkpoint);
  for (const name of ['embed', 'head']) {
    const source = await checkpoint.tensor(`${name}.weight`);
    const scales = floats(artifact, `${name}.scale`);
    const cols = source.length / scales.length;
    floats(artifact, `${name}.weight`).forEach((value, i) => {
      const step = scales[Math.floor(i / cols)]!;
      // half a step, and float32's rounding of scale and product at up to 127 steps
      expect(Math.abs(value - source[i]!)).toBeLessThanOrEqual(step * (0.5 + 127 * 2 ** -22));
    });
  }
  await checkpoint.close();
});

test('a tied head cannot have bytes of its own, and takes the embedding’s', async () => {
  const options = setup({ tieWordEmbeddings: true }, {}, { scheme: 'rtn-dynamic', headBits: 8 });
  await expect(runPrepare(options)).rejects.toThrow(/head bits 8: expected embedding bits 8, too/);
  await runPrepare({ ...options, embeddingBits: 8 });
  const { manifest } = readArtifact(options.out);
  expect(manifest.embeddingBits).toBe(8);
  expect(manifest.headBits).toBeUndefined();
});

test('a row of zeros has a scale of 1', () => {
  const { codes, scales } = byteRows(new Float32Array([0, -0, 3, -1.25]), 2);
  expect([...codes].map(Math.abs)).toEqual([0, 0, 127, 53]);
  expect(scales[0]).toBe(1);
  expect(() => byteRows(new Float32Array([1, Number.NaN]), 1)).toThrow(/finite/);
});

test('rows are fused in the documented order', async () => {
  const options = setup({}, { dtype: 'F32' }, { scheme: 'fp16' });
  const { Checkpoint } = await import('./checkpoint');
  const checkpoint = await Checkpoint.open(options.checkpoint);
  const file = readFileSync(join(options.checkpoint, 'model.safetensors'));
  const { tensors } = parseSafetensorsHeader(file, file.length, 'model.safetensors');
  const row = (name: string, r: number) => {
    const { begin, shape } = tensors.find((tensor) => tensor.name === `model.layers.0.${name}.weight`)!;
    const at = begin + r * shape[1]! * 4;
    return new Float32Array(file.buffer.slice(file.byteOffset + at, file.byteOffset + at + shape[1]! * 4));
  };
  expect(await checkpoint.rows('layers.0.qkv.weight', 63, 1)).toEqual(row('self_attn.q_proj', 63));
  expect(await checkpoint.rows('layers.0.qkv.weight', 64, 1)).toEqual(row('self_attn.k_proj', 0));
  expect(await checkpoint.rows('layers.0.qkv.weight', 81, 1)).toEqual(row('self_attn.v_proj', 1));
  const pair = await checkpoint.rows('layers.0.gate_up.weight', 11, 2);
  expect(pair.subarray(0, 64)).toEqual(row('mlp.up_proj', 5));
  expect(pair.subarray(64)).toEqual(row('mlp.gate_proj', 6));
  await checkpoint.close();
});

test('large tensors are stored in row blocks and shards keep to their cap', async () => {
  const options = setup({}, {}, { scheme: 'fp16', maxShardBytes: 24_000, maxTensorBytes: 10_000 });
  const summary = await runPrepare(options);
  expect(summary.shards).toBeGreaterThan(5);
  expectWholeArtifact(options.out);
  const { manifest } = readArtifact(options.out);
  for (const { bytes } of manifest.shards) expect(bytes).toBeLessThanOrEqual(24_000);
});

test('the same input gives the same bytes, another seed another calibration', async () => {
  const options = setup({}, {}, {});
  await runPrepare(options);
  const again = { ...options, out: freshPath() };
  await runPrepare(again);
  const hashes = (out: string) => readArtifact(out).manifest.shards.map(({ sha256 }) => sha256);
  expect(hashes(again.out)).toEqual(hashes(options.out));
  const other = { ...options, out: freshPath(), seed: 2 };
  await runPrepare(other);
  expect(hashes(other.out)).not.toEqual(hashes(options.out));
});

describe('bad input gives one clear error and leaves nothing behind', () => {
  const edit = (dir: string, change: (config: Record<string, unknown>) => void) => {
    const path = join(dir, 'config.json');
    const config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    change(config);
    writeFileSync(path, JSON.stringify(config));
  };
  const weights = (dir: string) => join(dir, 'model.safetensors');

  test.each<{
    label: string;
    break?: (checkpoint: string) => void;
    random?: RandomCheckpointOptions;
    options?: () => Partial<PrepareOptions>;
    message: RegExp;
  }>([
    {
      label: 'no folder',
      options: () => ({ checkpoint: freshPath() }),
      message: /config\.json: expected the file/,
    },
    {
      label: 'another architecture',
      break: (dir) => edit(dir, (c) => Object.assign(c, { model_type: 'qwen2' })),
      message: /config\.json: model_type: expected .*llama.*found "qwen2"/,
    },
    { label: 'no weights', break: (dir) => rmSync(weights(dir)), message: /expected model\.safetensors or/ },
    {
      label: 'truncated weights',
      break: (dir) => truncateSync(weights(dir), 5000),
      message: /model\.safetensors: .*expected .*found/,
    },
    {
      label: 'a config that disagrees with the shapes',
      break: (dir) => edit(dir, (c) => Object.assign(c, { intermediate_size: 176 })),
      message: /gate_proj\.weight: expected shape \[176,64\].*found \[172,64\]/,
    },
    {
      label: 'a missing layer',
      break: (dir) => edit(dir, (c) => Object.assign(c, { num_hidden_layers: 3 })),
      message: /model\.layers\.2\..*: expected a tensor .*found nothing/,
    },
    {
      label: 'a missing shard',
      random: { shards: 2 },
      break: (dir) => rmSync(join(dir, 'model-00002-of-00002.safetensors')),
      message: /model-00002-of-00002\.safetensors: expected the file/,
    },
    {
      label: 'an unsupported dtype',
      break: (dir) => {
        const file = readFileSync(weights(dir));
        const patched = Buffer.from(file.toString('latin1').replace('"F16"', '"I16"'), 'latin1');
        writeFileSync(weights(dir), patched);
      },
      message: /embed_tokens\.weight: expected dtype F16, BF16 or F32, found I16/,
    },
    {
      label: 'weights that are not finite',
      random: { outliers: { 5: Number.POSITIVE_INFINITY } },
      message: /layernorm\.weight: expected finite values, found 1 of 64/,
    },
    {
      label: 'no tokenizer',
      random: { withoutTokenizer: true },
      message: /expected tokenizer\.json, found none/,
    },
    { label: 'no calibration', options: () => ({ calibration: [] }), message: /give --calibration with/ },
    {
      label: 'empty calibration',
      options: () => {
        const empty = freshPath();
        writeFileSync(empty, ' \n');
        return { calibration: [empty] };
      },
      message: /expected text, found an empty file/,
    },
    {
      label: 'a chat line that is no conversation',
      options: () => {
        const bad = `${freshPath()}.jsonl`;
        writeFileSync(bad, '{"messages":[{"role":"user","content":"Hi"}]}\n{"text":"Hi"}\n');
        return { calibration: [bad] };
      },
      message: /line 2: expected .*messages.*found \{"text":"Hi"\}/,
    },
    {
      label: 'a sequence beyond the context',
      options: () => ({ sequence: 300 }),
      message: /256 tokens, found 300/,
    },
    {
      label: 'an output below a file',
      options: () => ({ out: join(text, 'artifact') }),
      message: /cannot write to|exists and is no folder/,
    },
  ])('$label', async ({ break: damage, random = {}, options, message }) => {
    const prepared = setup({}, random, {});
    damage?.(prepared.checkpoint);
    const all = { ...prepared, ...options?.() };
    await expect(runPrepare(all)).rejects.toThrow(message);
    expect(readdirSync(folder)).not.toContain(all.out.slice(folder.length + 1));
    expect(leftovers()).toEqual([]);
  });

  test('float16 overflow names the tensor and the count', async () => {
    const options = setup({}, { dtype: 'F32' }, { scheme: 'fp16' });
    const file = readFileSync(weights(options.checkpoint));
    const { tensors } = parseSafetensorsHeader(file, file.length, 'model.safetensors');
    const { begin } = tensors.find(({ name }) => name === 'model.layers.1.mlp.down_proj.weight')!;
    file.writeFloatLE(1e6, begin);
    file.writeFloatLE(-1e6, begin + 40);
    writeFileSync(weights(options.checkpoint), file);
    await expect(runPrepare(options)).rejects.toThrow(/layers\.1\.down\.weight: .*65504: 2 of/);
    expect(leftovers()).toEqual([]);
  });
});

test('an output that exists stays unless it is an artifact and --force is given', async () => {
  const options = setup({}, {}, { scheme: 'fp16' });
  mkdirSync(options.out);
  writeFileSync(join(options.out, 'letter.txt'), 'mine');
  await expect(runPrepare(options)).rejects.toThrow(/exists already/);
  await expect(runPrepare({ ...options, force: true })).rejects.toThrow(/artifacts only/);
  expect(readdirSync(options.out)).toEqual(['letter.txt']);
  const artifact = { ...options, out: freshPath() };
  await runPrepare(artifact);
  await expect(runPrepare(artifact)).rejects.toThrow(/exists already/);
  await runPrepare({ ...artifact, force: true, name: 'second' });
  expect(readArtifact(artifact.out).manifest.name).toBe('second');
});

const entry = `
import { runnerImport } from 'vite';
import { Command } from 'commander';
const { module } = await runnerImport('./cli/commands/prepare.ts', { configFile: false, logLevel: 'silent' });
const program = new Command();
module.register(program);
await program.parseAsync(['node', 'mergequant', ...process.argv.slice(1)]);
`;

/** Runs the command in a process of its own. @param whileRunning is called until the process ends. */
function runCommand(
  args: string[],
  whileRunning: (kill: (signal: NodeJS.Signals) => void) => void = () => {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const child = spawn(process.execPath, ['--input-type=module', '-e', entry, '--', ...args], { cwd: root });
  let stdout = '';
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  const timer = setInterval(() => whileRunning((signal) => child.kill(signal)), 2);
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearInterval(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

test('the command prints one JSON summary', async () => {
  const { checkpoint, out } = setup({}, {}, {});
  const args = [
    'prepare',
    checkpoint,
    '--out',
    out,
    '--calibration',
    text,
    chat,
    '--act-bits',
    '8',
    '--json',
  ];
  const { code, stdout } = await runCommand([...args, '--samples', '4']);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ out, scheme: 'mergequant', actBits: 8, shards: 1 });
  expectWholeArtifact(out);
});

test('Ctrl-C removes the half-written artifact', async () => {
  const { checkpoint, out } = setup({ numLayers: 24 }, {}, {});
  let seen = false;
  const command = ['prepare', checkpoint, '--out', out, '--calibration', text, '--samples', '500'];
  const { code, stderr } = await runCommand(command, (kill) => {
    if (seen || leftovers().length === 0) return;
    seen = true;
    kill('SIGINT');
  });
  expect(seen, stderr).toBe(true);
  expect(code, stderr).toBe(130);
  expect(leftovers()).toEqual([]);
  expect(readdirSync(folder)).not.toContain(out.slice(folder.length + 1));
});

test('a killed run goes on behind its finished layers, to the bytes of a whole one', async () => {
  const options = setup({ numLayers: 6 }, {}, { calibration: [text], alpha: 4 });
  const { checkpoint, out } = options;
  const args = [
    '--calibration',
    text,
    '--samples',
    '8',
    '--sequence',
    '64',
    '--weights',
    'rtn',
    '--alpha',
    '4',
  ];
  let seen = false;
  const { stderr } = await runCommand(['prepare', checkpoint, '--out', out, ...args], (kill) => {
    const layers = kept().flatMap((name) => readdirSync(join(folder, name)));
    if (seen || !layers.includes('1')) return;
    seen = true;
    kill('SIGKILL');
  });
  expect(seen, stderr).toBe(true);
  expect(readdirSync(folder)).not.toContain(basename(out));
  for (const name of leftovers()) rmSync(join(folder, name), { recursive: true });
  const done: number[] = [];
  const stopwatch = new Stopwatch();
  const quantize = vi.spyOn(stopwatch, 'time');
  await runPrepare({ ...options, stopwatch }, (layers) => done.push(layers));
  const made = quantize.mock.calls.filter(([stage]) => stage === 'quantize').length;
  expect(made).toBeGreaterThan(0);
  expect(made).toBeLessThanOrEqual(4);
  expect(done.at(-1)).toBe(6);
  const whole = { ...options, out: freshPath(), name: readArtifact(out).manifest.name };
  await runPrepare(whole);
  expectWholeArtifact(out);
  for (const name of readdirSync(out)) {
    expect(readFileSync(join(out, name)).equals(readFileSync(join(whole.out, name))), name).toBe(true);
  }
});

test('the tiny shape stays what other tests rely on', () => {
  expect(tinyConfig).toMatchObject({
    hiddenSize: 64,
    intermediateSize: 172,
    numHeads: 8,
    numKvHeads: 2,
    headDim: 8,
  });
});
