import source from '../../shaders/rmsnorm.wgsl?raw';
import type { GpuMemory } from '../gpu/arena';
import { foldGrid, type KernelContext, makeOp, type Op } from './op';
import { tokenThreads } from './quantizer';

export interface RmsNormArgs {
  readonly hiddenSize: number; // D
  readonly eps: number;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly x: GPUBuffer; // [T, D] f32
  readonly weight: GpuMemory; // [D] f32, γ
  readonly y: GPUBuffer; // [T, D] f32, or [1, D] with lastRowOnly
  /** Normalize the last token only, into row 0 of y (the head needs no other). */
  readonly lastRowOnly: boolean;
}

/** Root-mean-square norm with weight (Zhang and Sennrich, 2019) in float32. */
export function rmsnorm(context: KernelContext, args: RmsNormArgs): Promise<Op> {
  const params = context.arena.uniform('rmsnorm.params', { D: args.hiddenSize, eps: { f32: args.eps } });
  return makeOp(context, {
    label: 'rmsnorm',
    source,
    constants: { LAST_ROW: args.lastRowOnly ? 1 : 0, WORKGROUP: tokenThreads(context) },
    bindings: [params, args.step, args.x, args.weight, args.y],
    grid: (numTokens) => (args.lastRowOnly ? [1, 1, 1] : [...foldGrid(numTokens), 1]),
  });
}
