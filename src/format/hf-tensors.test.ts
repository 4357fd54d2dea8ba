import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { LlamaConfig } from './config';
import { SafetensorsError } from './errors';
import { parseHfConfig } from './hf-config';
import { type CheckpointTensor, hfTensors, matchHfTensors } from './hf-tensors';
import { tinyConfig } from './manifest-fixture';
import { parseSafetensorsHeader } from './safetensors';
import { tensorSpecs } from './tensors';

const biased: LlamaConfig = { ...tinyConfig, attentionBias: true, mlpBias: true };

const checkpointOf = (config: LlamaConfig): CheckpointTensor[] =>
  hfTensors(config).map(({ hf, shape }) => ({ name: hf, dtype: 'BF16', shape, file: 'model.safetensors' }));

test.each([tinyConfig, biased, { ...biased, tieWordEmbeddings: true }])(
  'every row of every tensor of the fp16 scheme comes from exactly one row of the checkpoint (%#)',
  (config) => {
    const layout = { config, scheme: 'fp16', quant: null, denseDtype: 'F32' } as const;
    const rows = new Map(tensorSpecs(layout).map(({ name, shape }) => [name, new Array(shape[0]!).fill(0)]));
    for (const { target, shape, rowStart, rowStride } of hfTensors(config)) {
      for (let row = 0; row < shape[0]!; row++) rows.get(target)![rowStart + row * rowStride]++;
    }
    for (const [name, counts] of rows) expect(new Set(counts), name).toEqual(new Set([1]));
    const inputs = new Map(tensorSpecs(layout).map(({ name, shape }) => [name, shape.slice(1)]));
    for (const { target, shape } of hfTensors(config)) expect(shape.slice(1)).toEqual(inputs.get(target));
  },
);

test('q, k and v follow each other; gate and up alternate', () => {
  const places = new Map(hfTensors(tinyConfig).map((tensor) => [tensor.hf, tensor]));
  const at = (name: string) => places.get(`model.layers.1.${name}.weight`);
  expect(at('self_attn.k_proj')).toEqual({
    hf: 'model.layers.1.self_attn.k_proj.weight',
    shape: [16, 64],
    target: 'layers.1.qkv.weight',
    rowStart: 64,
    rowStride: 1,
  });
  expect(at('self_attn.v_proj')).toMatchObject({ rowStart: 80, rowStride: 1 });
  expect(at('mlp.gate_proj')).toMatchObject({ target: 'layers.1.gate_up.weight', rowStart: 0, rowStride: 2 });
  expect(at('mlp.up_proj')).toMatchObject({ target: 'layers.1.gate_up.weight', rowStart: 1, rowStride: 2 });
});

test('the demo checkpoint matches its config', () => {
  const folder = new URL('../../models/demo-chat-8m/', import.meta.url);
  const config = parseHfConfig(
    JSON.parse(readFileSync(new URL('config.json', folder), 'utf8')),
    'config.json',
  );
  const found = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'].flatMap((file) => {
    const bytes = readFileSync(new URL(file, folder));
    return parseSafetensorsHeader(bytes, bytes.length, file).tensors.map((tensor) => ({ ...tensor, file }));
  });
  expect(matchHfTensors(config, found, 'demo-chat-8m').size).toBe(3 + 9 * 8);
});

describe('matching', () => {
  test('unread leftovers of older exports are ignored', () => {
    const extra: CheckpointTensor[] = [
      { name: 'model.layers.0.self_attn.rotary_emb.inv_freq', dtype: 'F32', shape: [4], file: 'a' },
      { name: 'lm_head.weight', dtype: 'F32', shape: [512, 64], file: 'a' },
    ];
    const tied = { ...tinyConfig, tieWordEmbeddings: true };
    const matched = matchHfTensors(tied, [...checkpointOf(tied), ...extra], 'folder');
    expect([...matched.keys()]).toEqual(hfTensors(tied).map(({ hf }) => hf));
  });

  const good = checkpointOf(tinyConfig);
  const first = good[0]!;
  test.each<[string, CheckpointTensor[], RegExp]>([
    [
      'one missing',
      good.slice(1),
      /folder: model.embed_tokens.weight: expected a tensor \[512,64\], found nothing$/,
    ],
    ['many missing', good.slice(3), /nothing \(3 of 21 are missing\)/],
    ['unknown', [...good, { ...first, name: 'model.lora' }], /model.safetensors: model.lora: .*unknown/],
    [
      'a bias that the config denies',
      [...good, ...checkpointOf(biased).filter((t) => t.name.endsWith('q_proj.bias'))],
      /unknown/,
    ],
    [
      'repeated',
      [...good, { ...first, file: 'b' }],
      /b: model.embed_tokens.weight: expected each tensor once/,
    ],
    ['integers', [{ ...first, dtype: 'I8' }], /expected dtype F16, BF16 or F32, found I8/],
    [
      'another shape',
      [{ ...first, shape: [512, 65] }],
      /expected shape \[512,64\], as the config says, found \[512,65\]/,
    ],
    ['another rank', [{ ...first, shape: [512] }], /expected shape \[512,64\].*found \[512\]/],
  ])('refuses %s', (_, tensors, message) => {
    expect(() => matchHfTensors(tinyConfig, tensors, 'folder')).toThrow(SafetensorsError);
    expect(() => matchHfTensors(tinyConfig, tensors, 'folder')).toThrow(message);
  });
});
