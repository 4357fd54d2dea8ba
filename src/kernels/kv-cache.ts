/** The key-value cache as kernels take it: its buffers, and the WGSL that reads and appends rows. */
import half from '../../shaders/kv_half.wgsl?raw';
import halfAppend from '../../shaders/kv_half_append.wgsl?raw';
import halfOwn from '../../shaders/kv_half_own.wgsl?raw';
import int4 from '../../shaders/kv_int4.wgsl?raw';
import int8 from '../../shaders/kv_int8.wgsl?raw';
import coded from '../../shaders/kv_scaled.wgsl?raw';
import scales from '../../shaders/kv_scales.wgsl?raw';
import scalesAppend from '../../shaders/kv_scales_append.wgsl?raw';
import scalesOwn from '../../shaders/kv_scales_own.wgsl?raw';
import { type KvCacheKind, kvCacheBytes, kvScalesBytes } from '../format/kv-cache';
import type { GpuMemory } from '../gpu/arena';
import { requireShape } from './op';

export interface KvCacheArgs {
  /** Default `f16`. */
  readonly kvCache?: KvCacheKind;
  readonly keyCache: GpuMemory; // [Hkv, contextLength, row] of kvRowBytes each
  readonly valueCache: GpuMemory; // [Hkv, contextLength, row]
  /** Steps and minima, for the kinds with codes. */
  readonly kvScales?: GPUBuffer | null; // [2 (keys, values), Hkv, contextLength] u32
}

interface Heads {
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly contextLength: number;
}

/** What a kernel does with a cache: reads it, reads it and appends the token's own row, or appends rows. */
type Access = 'read' | 'own' | 'append';

/** WGSL to put in front of a kernel. */
export function kvCacheSources(kind: KvCacheKind, access: Access): string[] {
  if (kind === 'f16') return [half, ...{ read: [], own: [halfOwn], append: [halfAppend] }[access]];
  return [
    kind === 'int8' ? int8 : int4,
    coded,
    { read: scales, own: scalesOwn, append: scalesAppend }[access],
  ];
}

/**
 * The binding of steps and minima, last of a kernel's bindings; none for halves.
 * @throws KernelShapeError when a buffer is missing or too small for the heads
 */
export function kvScaleBindings(args: KvCacheArgs & Heads, label: string): GPUBuffer[] {
  const { kvCache = 'f16', keyCache, valueCache, kvScales } = args;
  const bytes = kvCacheBytes(args, args.contextLength, kvCache);
  for (const { size } of [keyCache, valueCache]) {
    requireShape(size >= bytes, label, `a ${kvCache} cache of ${bytes} bytes, got ${size}`);
  }
  if (kvCache === 'f16') return [];
  const scalesBytes = kvScalesBytes(args, args.contextLength, kvCache);
  const found = kvScales?.size ?? 0;
  requireShape(found >= scalesBytes, label, `scales of ${scalesBytes} bytes, got ${found}`);
  return [kvScales!];
}
