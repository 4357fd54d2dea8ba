import { describe, expect, test } from 'vitest';
import { ManifestError } from './errors';
import { headerOf, tinyManifest, tinyShards } from './manifest-fixture';
import { parseManifest } from './parse-manifest';
import { parseSafetensorsHeader, type SafetensorsTensor } from './safetensors';
import { schemeNames } from './scheme';
import { checkShardTensors, type ShardHeader, ShardTensorCheck } from './shard-tensors';
import { shardName } from './shards';

function headers(scheme: (typeof schemeNames)[number]): ShardHeader[] {
  return tinyShards(scheme).map((shard, i) => {
    const bytes = headerOf(shard);
    const fileBytes = bytes.length + shard.reduce((sum, tensor) => sum + tensor.bytes, 0);
    return { file: shardName(i), header: parseSafetensorsHeader(bytes, fileBytes, shardName(i)) };
  });
}

const manifest = parseManifest(tinyManifest('mergequant'), 'manifest.json');

/** The shards with one tensor of the first one replaced. */
function replaced(change: (tensor: SafetensorsTensor) => SafetensorsTensor[]): ShardHeader[] {
  const [first, ...rest] = headers('mergequant') as [ShardHeader, ...ShardHeader[]];
  const tensors = first.header.tensors.flatMap((tensor, i) => (i === 0 ? change(tensor) : [tensor]));
  return [{ ...first, header: { ...first.header, tensors } }, ...rest];
}

describe('the shards hold exactly the tensors of the manifest', () => {
  test.each(schemeNames)('%s', (scheme) => {
    const shards = headers(scheme);
    expect(shards.length).toBeGreaterThan(1);
    expect(checkShardTensors(parseManifest(tinyManifest(scheme), 'm'), shards)).toBeUndefined();
  });

  test('shards may come in any order, and say where each tensor lies', () => {
    const check = new ShardTensorCheck(manifest);
    const found = headers('mergequant')
      .reverse()
      .flatMap((shard) => check.add(shard));
    check.finish();
    for (const { stored, begin, end } of found) expect(end - begin).toBe(stored.bytes);
  });

  test('a header without padding is refused', () => {
    const shards = headers('mergequant').map(({ file, header }) => ({
      file,
      header: { ...header, dataStart: header.dataStart + 4 },
    }));
    expect(() => checkShardTensors(manifest, shards)).toThrow(
      /shard-00001\.safetensors: expected a header padded .* multiple of 8/,
    );
  });

  test.each<[string, (tensor: SafetensorsTensor) => SafetensorsTensor[], RegExp]>([
    [
      'missing',
      () => [],
      /manifest.json: embed.weight.rows.0: expected the tensor in one of the shards, found nothing \(1 of/,
    ],
    [
      'unknown',
      (t) => [t, { ...t, name: 'lora' }],
      /shard-00001.safetensors: lora: expected only tensors of this/,
    ],
    [
      'repeated',
      (t) => [t, t],
      /embed.weight.rows.0: expected each tensor once, found it again after shard-00001/,
    ],
    [
      'of another dtype',
      (t) => [{ ...t, dtype: 'BF16' }],
      /expected F16 \[312, 64\], found BF16 \[312, 64\]/,
    ],
    [
      'of another shape',
      (t) => [{ ...t, shape: [64, 312] }],
      /expected F16 \[312, 64\], found F16 \[64, 312\]/,
    ],
  ])('a tensor that is %s is refused', (_, change, message) => {
    expect(() => checkShardTensors(manifest, replaced(change))).toThrow(ManifestError);
    expect(() => checkShardTensors(manifest, replaced(change))).toThrow(message);
  });
});
