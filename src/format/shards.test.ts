import fc from 'fast-check';
import { expect, test } from 'vitest';
import { buildSafetensorsHeader } from './safetensors';
import { assignShards, defaultMaxTensorBytes, maxShardBytes, shardName } from './shards';

test('shards keep the order, are filled, and never exceed the limit with their real headers', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(sizes, (bytes) => {
      const tensors = bytes.map((size, i) => ({ name: `layers.${i}.qkv.weight.rows.${i}`, bytes: size }));
      const shards = assignShards(tensors, 10_000);
      expect(shards.flat()).toEqual(tensors);
      shards.forEach((shard, i) => {
        const entries = shard.map((t) => ({ name: t.name, dtype: 'U8' as const, shape: [t.bytes] }));
        const data = shard.reduce((sum, t) => sum + t.bytes, 0);
        expect(buildSafetensorsHeader(entries).length + data).toBeLessThanOrEqual(10_000);
        const next = shards[i + 1]?.[0];
        if (next) expect(data + next.bytes + 300 * (shard.length + 2)).toBeGreaterThan(10_000);
      });
    }),
  );
});

test('the largest stored tensor fits a shard of its own', () => {
  const shards = assignShards([
    { name: 'embed.weight.rows.0', bytes: defaultMaxTensorBytes },
    { name: 'embed.weight.rows.8191', bytes: defaultMaxTensorBytes },
  ]);
  expect(shards.map((shard) => shard.length)).toEqual([1, 1]);
  const header = buildSafetensorsHeader([
    { name: 'embed.weight.rows.0', dtype: 'U8', shape: [defaultMaxTensorBytes] },
  ]);
  expect(header.length + defaultMaxTensorBytes).toBeLessThanOrEqual(maxShardBytes);
});

test('names count from 1', () => {
  expect(shardName(0)).toBe('shard-00001.safetensors');
});
