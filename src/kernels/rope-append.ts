import shared from '../../shaders/rope.wgsl?raw';
import source from '../../shaders/rope_append.wgsl?raw';
import { foldGrid, type KernelContext, makeOp, type Op, requireShape } from './op';

const workgroup = 64;

export interface RopeAppendArgs {
  readonly numHeads: number; // H
  readonly numKvHeads: number; // Hkv
  readonly headDim: number; // Dh, even
  /** Positions that the caches and the table hold. */
  readonly contextLength: number;
  /** Step uniform: `numTokens`, `position`. */
  readonly step: GPUBuffer;
  readonly qkv: GPUBuffer; // [T, (H + 2·Hkv)·Dh] f32, q | k | v; q is rotated in place
  readonly table: GPUBuffer; // [contextLength, Dh/2, 2] f32, see ropeTable
  readonly keyCache: GPUBuffer; // [Hkv, contextLength, Dh/2] u32, two halves each
  readonly valueCache: GPUBuffer; // [Hkv, contextLength, Dh/2] u32
}

/** Bytes of one layer's key cache, and of its value cache. */
export function kvCacheBytes(numKvHeads: number, headDim: number, contextLength: number): number {
  return numKvHeads * contextLength * headDim * 2;
}

/**
 * Rotates queries in place, rotates keys, and stores keys and values as halves at `position + t`. Positions beyond the
 * context store nothing.
 * @throws KernelShapeError when Dh is odd
 */
export function ropeAppend(context: KernelContext, args: RopeAppendArgs): Promise<Op> {
  const { numHeads, numKvHeads, headDim, contextLength } = args;
  requireShape(headDim % 2 === 0, 'ropeAppend', `an even headDim, got ${headDim}`);
  const shape = { H: numHeads, Hkv: numKvHeads, Dh: headDim, context: contextLength };
  const params = context.arena.uniform('rope_append.params', shape);
  const units = ((numHeads + 2 * numKvHeads) * headDim) / 2;
  return makeOp(context, {
    label: 'rope_append',
    source: `${shared}\n${source}`,
    constants: { WORKGROUP: workgroup },
    bindings: [params, args.step, args.table, args.qkv, args.keyCache, args.valueCache],
    grid: (numTokens) => [...foldGrid(Math.ceil((numTokens * units) / workgroup)), 1],
  });
}
