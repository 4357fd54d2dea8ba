import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseSafetensorsHeader } from '../format/safetensors';
import { floats, readArtifact } from './artifact-reader';
import { Checkpoint } from './checkpoint';
import { byteRows } from './export';
import { runPrepare } from './prepare';
import { PrepareFolder } from './prepare-testing';

const folder = new PrepareFolder('prepare-stored');

test.each(['F32', 'F16', 'BF16'] as const)('fp16 keeps %s weights to float16 precision', async (dtype) => {
  const options = folder.setup({}, { dtype, shards: 2 }, { scheme: 'fp16', calibration: [] });
  await runPrepare(options);
  folder.expectWholeArtifact(options.out);
  const artifact = readArtifact(options.out);
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
  const options = folder.setup(
    {},
    { dtype: 'F32' },
    { scheme: 'rtn-dynamic', embeddingBits: 8, headBits: 8 },
  );
  await runPrepare(options);
  folder.expectWholeArtifact(options.out);
  const artifact = readArtifact(options.out);
  expect(artifact.manifest).toMatchObject({ version: 2, embeddingBits: 8, headBits: 8 });
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
  const options = folder.setup({ tieWordEmbeddings: true }, {}, { scheme: 'rtn-dynamic', headBits: 8 });
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
  const options = folder.setup({}, { dtype: 'F32' }, { scheme: 'fp16' });
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
  const options = folder.setup({}, {}, { scheme: 'fp16', maxShardBytes: 24_000, maxTensorBytes: 10_000 });
  const summary = await runPrepare(options);
  expect(summary.shards).toBeGreaterThan(5);
  folder.expectWholeArtifact(options.out);
  const { manifest } = readArtifact(options.out);
  for (const { bytes } of manifest.shards) expect(bytes).toBeLessThanOrEqual(24_000);
});
