import shared from '../../shaders/rope.wgsl?raw';
import source from '../../shaders/rope_append.wgsl?raw';
import eightsSource from '../../shaders/rope_append_eights.wgsl?raw';
import rowsSource from '../../shaders/rope_append_rows.wgsl?raw';
import { kvRowBytes } from '../format/kv-cache';
import { type KvCacheArgs, kvCacheSources, kvScaleBindings } from './kv-cache';
import { foldGrid, type KernelContext, makeOp, type Op, type OpSpec, requireShape } from './op';

/** Starting a workgroup takes a GPU time that small ones do not fill: 62 µs with 64 invocations and 34 with 256, docs/LOG.md. */
const workgroup = { hardware: 256, software: 64 };
/** Of invocations with sixteen elements each, whose workgroups are filled by less. */
const eightsWorkgroup = 64;

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
  const isShort = kvCache === 'f16' || headDim <= 256;
  requireShape(isShort, 'ropeAppend', `a headDim of at most 256, got ${headDim}`);
  const shape = { H: numHeads, Hkv: numKvHeads, Dh: headDim, context: contextLength };
  const scales = kvScaleBindings(args, 'ropeAppend');
  const params = context.arena.uniform('rope_append.params', shape);
  const { sources, ...kernel } = chooseKernel(context, args);
  return makeOp(context, {
    ...kernel,
    source: [shared, ...sources].join('\n'),
    bindings: [params, args.step, args.table, args.qkv, args.keyCache, args.valueCache, ...scales],
  });
}

type KernelChoice = Pick<OpSpec, 'label' | 'constants' | 'grid'> & { readonly sources: readonly string[] };

function chooseKernel({ gpu }: KernelContext, args: RopeAppendArgs): KernelChoice {
  const { numHeads, numKvHeads, headDim, kvCache = 'f16' } = args;
  const heads = numHeads + 2 * numKvHeads;
  const layout = kvCacheSources(kvCache, 'append');
  if (headDim % 32 === 0 && headDim <= 256) {
    const rows = Math.floor(eightsWorkgroup / (headDim / 16)); // of a workgroup
    return {
      label: 'rope_append_eights',
      sources: [...layout, eightsSource],
      constants: { WORKGROUP: eightsWorkgroup },
      grid: (numTokens) => [...foldGrid(Math.ceil((numTokens * heads) / rows)), 1],
    };
  }
  if (kvCache !== 'f16') {
    const grid: OpSpec['grid'] = (numTokens) => [heads, numTokens, 1];
    return { label: 'rope_append_rows', sources: [...layout, rowsSource], grid };
  }
  const threads = workgroup[gpu.caps.software ? 'software' : 'hardware'];
  const units = (heads * kvRowBytes(headDim, 'f16')) / 4;
  return {
    label: 'rope_append',
    sources: [source],
    constants: { WORKGROUP: threads },
    grid: (numTokens) => [...foldGrid(Math.ceil((numTokens * units) / threads)), 1],
  };
}
