/** What a key-value cache with codes keeps of a row, in float64: the reference of kv_scaled.wgsl. */
import type { KvCacheKind } from '../format/kv-cache';

/** The floats of 16 bits (upper halves of float32) next to x: the nearest of those not above, and not below. */
function sixteenBits(x: number, direction: 'down' | 'up'): number {
  const bits = new Uint32Array(new Float32Array([x]).buffer)[0]!;
  const away = (direction === 'down') === x < 0;
  const rounded = (away ? bits + 0xffff : bits) & 0xffff0000;
  return new Float32Array(new Uint32Array([rounded]).buffer)[0]!;
}

/** One position of one head as it is read back; halves are taken as exact. */
export function keptRowRef(row: Float64Array, kind: KvCacheKind): Float64Array {
  if (kind === 'f16') return row;
  const levels = kind === 'int8' ? 255 : 15;
  const minimum = sixteenBits(Math.min(...row), 'down');
  const step = sixteenBits((Math.max(...row) - minimum) / levels, 'up');
  if (step === 0) return row.map(() => minimum);
  return row.map((x) => minimum + step * Math.max(0, Math.min(levels, Math.round((x - minimum) / step))));
}
