import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseSafetensorsHeader } from '../format/safetensors';
import { readArtifact } from './artifact-reader';
import { type PrepareOptions, runPrepare } from './prepare';
import { PrepareFolder } from './prepare-testing';
import type { RandomCheckpointOptions } from './testing';

const folder = new PrepareFolder('prepare-errors');

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
      options: () => ({ checkpoint: folder.freshPath() }),
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
        const empty = folder.freshPath();
        writeFileSync(empty, ' \n');
        return { calibration: [empty] };
      },
      message: /expected text, found an empty file/,
    },
    {
      label: 'a chat line that is no conversation',
      options: () => {
        const bad = `${folder.freshPath()}.jsonl`;
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
      options: () => ({ out: join(folder.text, 'artifact') }),
      message: /cannot write to|exists and is no folder/,
    },
  ])('$label', async ({ break: damage, random = {}, options, message }) => {
    const prepared = folder.setup({}, random, {});
    damage?.(prepared.checkpoint);
    const all = { ...prepared, ...options?.() };
    await expect(runPrepare(all)).rejects.toThrow(message);
    expect(readdirSync(folder.path)).not.toContain(all.out.slice(folder.path.length + 1));
    expect(folder.leftovers()).toEqual([]);
  });

  test('float16 overflow names the tensor and the count', async () => {
    const options = folder.setup({}, { dtype: 'F32' }, { scheme: 'fp16' });
    const file = readFileSync(weights(options.checkpoint));
    const { tensors } = parseSafetensorsHeader(file, file.length, 'model.safetensors');
    const { begin } = tensors.find(({ name }) => name === 'model.layers.1.mlp.down_proj.weight')!;
    file.writeFloatLE(1e6, begin);
    file.writeFloatLE(-1e6, begin + 40);
    writeFileSync(weights(options.checkpoint), file);
    await expect(runPrepare(options)).rejects.toThrow(/layers\.1\.down\.weight: .*65504: 2 of/);
    expect(folder.leftovers()).toEqual([]);
  });
});

test('an output that exists stays unless it is an artifact and --force is given', async () => {
  const options = folder.setup({}, {}, { scheme: 'fp16' });
  mkdirSync(options.out);
  writeFileSync(join(options.out, 'letter.txt'), 'mine');
  await expect(runPrepare(options)).rejects.toThrow(/exists already/);
  await expect(runPrepare({ ...options, force: true })).rejects.toThrow(/artifacts only/);
  expect(readdirSync(options.out)).toEqual(['letter.txt']);
  const artifact = { ...options, out: folder.freshPath() };
  await runPrepare(artifact);
  await expect(runPrepare(artifact)).rejects.toThrow(/exists already/);
  await runPrepare({ ...artifact, force: true, name: 'second' });
  expect(readArtifact(artifact.out).manifest.name).toBe('second');
});
