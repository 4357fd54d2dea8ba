/** How stored tensors are dealt out to shards. */
import type { StoredTensor } from './tensors';

/** No shard is larger: one shard is what a reader holds in memory. */
export const maxShardBytes = 64 * 2 ** 20;

/** A tensor up to this size fits a shard of its own with room for the header. */
export const defaultMaxTensorBytes = maxShardBytes - 4096;

/** `shard-00001.safetensors`, … */
export function shardName(index: number): string {
  return `shard-${String(index + 1).padStart(5, '0')}.safetensors`;
}

/** An upper bound of what a tensor takes in a header: its name, and the JSON around it with sizes and offsets. */
export function headerEntryBytes(tensor: Pick<StoredTensor, 'name'>): number {
  return tensor.name.length + 120;
}

/** Fills shard after shard, in order, each with its header at most `limit` bytes unless one tensor alone is larger. */
export function assignShards<T extends Pick<StoredTensor, 'name' | 'bytes'>>(
  tensors: readonly T[],
  limit = maxShardBytes,
): T[][] {
  const emptyBytes = 256; // header length, metadata and padding
  const shards: T[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const tensor of tensors) {
    const added = headerEntryBytes(tensor) + tensor.bytes;
    if (bytes + added > limit) {
      shards.push([]);
      bytes = emptyBytes;
    }
    shards.at(-1)!.push(tensor);
    bytes += added;
  }
  return shards;
}
