import { describe, expect, test } from 'vitest';
import { configProblem } from './check-config';
import { FormatError } from './errors';
import { tinyConfig, tinyLayout, tinyManifest } from './manifest-fixture';
import { chunkTokensFor, type MemoryPlan, planMemory } from './memory-plan';
import { parseManifest } from './parse-manifest';
import { modelShapes } from './shapes';

const GiB = 2 ** 30;
const MiB = 2 ** 20;
const llama7b = modelShapes['llama-2-7b'];
const buffer = (plan: MemoryPlan, label: string) => plan.buffers.find((entry) => entry.label === label);

describe('Llama-2-7B at 2048 tokens', () => {
  const plan = planMemory({
    config: llama7b,
    scheme: 'rtn-dynamic',
    contextLength: 2048,
    kvCache: 'f16',
  });

  test('bytes by category, computed by hand', () => {
    // 4 D² + 3 D·F int4 weights a layer, a float32 scale per output row, two norms of D floats, one at the end
    const layer =
      (4 * 4096 ** 2 + 3 * 4096 * 11008) / 2 + 4 * (3 * 4096 + 4096 + 2 * 11008 + 4096) + 2 * 4 * 4096;
    expect(plan.bytesByCategory).toEqual({
      weights: 32 * layer + 4 * 4096,
      embeddings: 2 * 2 * 32000 * 4096,
      'kv-cache': 2 * 2 * 32 * 2048 * 4096,
      scratch:
        4 * 256 * (1 + 2 * 4096 + 12288 + 11008 / 4 + 2) +
        4 * (36 * 2 * 11008 + 8 * 32 * 132 + 2048 * 128 + 4096 + 32000),
    });
    expect(plan.gpuBytes).toBe(Object.values(plan.bytesByCategory).reduce((a, b) => a + b, 0));
    expect(plan.gpuBytes / GiB).toBeGreaterThan(4.5);
    expect(plan.gpuBytes / GiB).toBeLessThan(4.6);
  });

  test('embeddings and head are split below 128 MiB, and the plan says what they were', () => {
    expect(plan.largestMatrix).toEqual({ label: 'embed.weight', bytes: 250 * MiB });
    expect(buffer(plan, 'embed.weight')).toMatchObject({ count: 2, largestBytes: 128 * MiB });
    expect(plan.largestBinding.bytes).toBe(128 * MiB);
    expect(plan.limits.map(({ fits }) => fits)).toEqual([true, true, true]);
  });

  test('the download is the weights and little else, in shards of at most 64 MiB', () => {
    const payload = plan.bytesByCategory.weights + plan.bytesByCategory.embeddings;
    expect(plan.files.downloadBytes).toBeGreaterThan(payload);
    expect(plan.files.downloadBytes).toBeLessThan(payload * 1.001);
    expect(plan.files.shards).toBeGreaterThanOrEqual(Math.ceil(payload / (64 * MiB)));
    expect(plan.files.shards * 64 * MiB).toBeLessThan(payload * 1.4);
  });
});

test.each([
  { kvCache: 'int8', most: 3.87 },
  { kvCache: 'int4', most: 3.6 },
] as const)(
  '$kvCache keys and values, 8-bit embedding and head: at most $most GiB at 2048 tokens',
  ({ kvCache, most }) => {
    const plan = planMemory({
      config: llama7b,
      scheme: 'mergequant',
      contextLength: 2048,
      kvCache,
      embeddingBits: 8,
      headBits: 8,
    });
    expect(plan.bytesByCategory.embeddings).toBe(2 * 32000 * (4096 + 4));
    // a row of 128 elements and a word for its step and minimum
    const row = kvCache === 'int8' ? 128 : 64;
    expect(plan.bytesByCategory['kv-cache']).toBe(2 * 32 * 32 * 2048 * (row + 4));
    expect(plan.gpuBytes / GiB).toBeLessThan(most);
    const floats = planMemory({ config: llama7b, scheme: 'mergequant', contextLength: 2048 });
    expect(floats.files.downloadBytes - plan.files.downloadBytes).toBeGreaterThan(2 * 32000 * 4092 - 1000);
  },
);

test('a cache by the length of its context: halves below 2048 tokens, codes of 8 bits from there on', () => {
  const planOf = (contextLength: number, persistentDecode = false) =>
    planMemory({ config: llama7b, scheme: 'mergequant', contextLength, persistentDecode });
  expect(planOf(2047).kvCache).toBe('f16');
  expect(planOf(2048).kvCache).toBe('int8');
  expect(planOf(2048).bytesByCategory['kv-cache']).toBe(2 * 32 * 32 * 2048 * (128 + 4));
  // the whole-token kernel reads halves, and exchanges floats through two halves of a buffer
  const whole = planOf(2048, true);
  expect(whole.kvCache).toBe('f16');
  const layer = 12288 + 4096 + 4096 + 11008 + 4096 + 32 * 8 * 130;
  expect(buffer(whole, 'crossing')!.totalBytes).toBe(4 * (96 + 2 * 32 * layer));
  expect(whole.bytesByCategory.scratch - planOf(2048).bytesByCategory.scratch).toBe(
    4 * (96 + 2 * 32 * layer),
  );
});

test('merged norms add columns: 4160 inputs in place of 4096', () => {
  const plan = planMemory({ config: llama7b, scheme: 'mergequant', contextLength: 2048 });
  expect(buffer(plan, 'layers.*.qkv.weight')!.totalBytes).toBe((32 * 12288 * 4160) / 2);
  expect(buffer(plan, 'layers.*.attn_norm.gather')!.totalBytes).toBe(32 * 4160 * 4);
  expect(plan.assumptions.join()).toContain('4160');
  const pruned = planMemory({
    config: llama7b,
    scheme: 'mergequant',
    reconstruct: 'prune',
    contextLength: 2048,
  });
  expect(buffer(pruned, 'layers.*.qkv.weight')!.totalBytes).toBe((32 * 12288 * 4096) / 2);
});

test('segments carry no second index on the GPU, but do in the files', () => {
  const plan = (reconstruct: 'pad' | 'segment') =>
    planMemory({ config: llama7b, scheme: 'mergequant', reconstruct, contextLength: 2048 });
  expect(plan('segment').gpuBytes).toBe(plan('pad').gpuBytes);
  expect(plan('segment').files.downloadBytes).toBeGreaterThan(
    plan('pad').files.downloadBytes + 64 * 4160 * 4,
  );
});

test('grouped heads shrink the cache, a long context outgrows the default binding', () => {
  const config = { ...modelShapes['llama-3-8b'], maxPositionEmbeddings: 131072 };
  const plan = planMemory({ config, scheme: 'mergequant', contextLength: 131072, kvCache: 'f16' });
  expect(buffer(plan, 'layers.*.keys')!.largestBytes).toBe(8 * 131072 * 128 * 2);
  expect(plan.largestBinding).toEqual({ label: 'layers.*.keys', bytes: 256 * MiB });
  expect(plan.limits.map(({ fits }) => fits)).toEqual([false, true, true]);
});

test('an artifact’s own layers are used, and its files are those of its manifest', () => {
  const { config, quant, denseDtype } = parseManifest(tinyManifest('mergequant'), 'm');
  const plan = planMemory({
    config,
    scheme: 'mergequant',
    quant,
    denseDtype,
    contextLength: 64,
    chunkTokens: 8,
  });
  expect(buffer(plan, 'layers.*.qkv.weight')!.totalBytes).toBe((2 * 96 * 96) / 2);
  expect(plan.assumptions).toHaveLength(1);
  expect(plan.actBits).toBe(4);
});

test('float rows are padded to 16 bytes on the GPU, not in the files', () => {
  const plan = planMemory({ config: tinyConfig, scheme: 'fp16', contextLength: 64, chunkTokens: 8 });
  expect(buffer(plan, 'layers.*.down.weight')!.totalBytes).toBe(2 * 64 * 352); // 172 halves in 22 · 16 bytes
  expect(plan.actBits).toBeNull();
  expect(buffer(plan, 'q')!.totalBytes).toBe(16);
  expect(plan.files.shards).toBe(1);
});

test('a tied head takes no second matrix', () => {
  const tied = { ...llama7b, tieWordEmbeddings: true };
  const plan = planMemory({ config: tied, scheme: 'fp16', contextLength: 64 });
  expect(plan.bytesByCategory.embeddings).toBe(2 * 32000 * 4096);
});

test.each(Object.entries(modelShapes))('%s is a valid shape', (_, config) => {
  expect(configProblem(config)).toBeNull();
  expect(config.numHeads * config.headDim).toBe(config.hiddenSize);
});

test.each([0, 1.5, 4097, Number.NaN])('a context of %d tokens is refused', (contextLength) => {
  const options = { config: llama7b, scheme: tinyLayout('fp16').scheme, contextLength };
  expect(() => planMemory(options)).toThrow(FormatError);
  expect(() => planMemory(options)).toThrow("context length: expected 1 to the model's 4096 tokens");
});

test.each([
  [2 ** 27, false, 256],
  [2 ** 30, false, 1024],
  [2 ** 30, true, 256],
])('a device that binds %d bytes, on the CPU: %s, takes passes of %d tokens', (bytes, isSoftware, tokens) => {
  expect(chunkTokensFor(bytes, isSoftware)).toBe(tokens);
});
