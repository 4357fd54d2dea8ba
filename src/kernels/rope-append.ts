import shared from '../../shaders/rope.wgsl?raw';
import source from '../../shaders/rope_append.wgsl?raw';
import foursSource from '../../shaders/rope_append_fours.wgsl?raw';
import rowsSource from '../../shaders/rope_append_rows.wgsl?raw';
import { kvRowBytes } from '../format/kv-cache';
import { type KvCacheArgs, kvCacheSources, kvScaleBindings } from './kv-cache';
import { foldGrid, type KernelContext, makeOp, type Op, requireShape } from './op';

/** Starting a workgroup takes a GPU time that small ones do not fill: 62 µs with 64 invocations and 34 with 256, docs/LOG.md. */
const workgroup = { hardware: 256, software: 64 };

export interface RopeAppendArgs extends KvCacheArgs {
  readonly numHeads: number; // H
  readonly numKvHeads: number; // Hkv
  readonly headDim: number; // Dh, even; at most 256 for caches with codes
  /** Positions that the caches and the table hold. */
  readonly contextLength: number;
  /** Step uniform: `numTokens`, `position`. */
  readonly step: GPUBuffer;
  readonly qkv: GPUBuffer; // [T, (H + 2·Hkv)·Dh] f32, q | k | v; q is rotated in place
  readonly table: GPUBuffer; // [contextLength, Dh/2, 2] f32, see ropeTable
}

/**
 * Rotates queries in place, rotates keys, and stores keys and values at `position + t`, as halves or as codes. Positions
 * beyond the context store nothing.
 * @throws KernelShapeError when Dh is odd or, with codes, above 256; when the cache is too small
 */
export function ropeAppend(context: KernelContext, args: RopeAppendArgs): Promise<Op> {
  const { numHeads, numKvHeads, headDim, contextLength, kvCache = 'f16' } = args;
  requireShape(headDim % 2 === 0, 'ropeAppend', `an even headDim, got ${headDim}`);
  const shape = { H: numHeads, Hkv: numKvHeads, Dh: headDim, context: contextLength };
  const scales = kvScaleBindings(args, 'ropeAppend');
  const params = context.arena.uniform('rope_append.params', shape);
  const bindings = [params, args.step, args.table, args.qkv, args.keyCache, args.valueCache, ...scales];
  if (kvCache !== 'f16') {
    requireShape(headDim <= 256, 'ropeAppend', `a headDim of at most 256, got ${headDim}`);
    return makeOp(context, {
      label: 'rope_append_rows',
      source: [shared, ...kvCacheSources(kvCache, 'append'), rowsSource].join('\n'),
      bindings,
      grid: (numTokens) => [numHeads + 2 * numKvHeads, numTokens, 1],
    });
  }
  const invocations = workgroup[context.gpu.caps.software ? 'software' : 'hardware'];
  const inFours = headDim % 8 === 0;
  const rowUnits = inFours ? headDim / 8 : kvRowBytes(headDim, 'f16') / 4;
  const units = (numHeads + 2 * numKvHeads) * rowUnits;
  return makeOp(context, {
    label: inFours ? 'rope_append_fours' : 'rope_append',
    source: `${shared}\n${inFours ? foursSource : source}`,
    constants: { WORKGROUP: invocations },
    bindings,
    grid: (numTokens) => [...foldGrid(Math.ceil((numTokens * units) / invocations)), 1],
  });
}
