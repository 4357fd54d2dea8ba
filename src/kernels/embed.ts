import source from '../../shaders/embed.wgsl?raw';
import type { DenseDtype } from '../format/manifest';
import { denseStride } from './dense-layout';
import { foldGrid, type KernelContext, makeOp, type Op } from './op';

const workgroup = 64;

export interface EmbedArgs {
  readonly hiddenSize: number; // D
  /** The first vocabulary row of this block, and how many it holds. */
  readonly rowStart: number;
  readonly rows: number;
  readonly dtype: DenseDtype;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly ids: GPUBuffer; // [T] u32
  readonly table: GPUBuffer; // [rows, denseStride(D)] of dtype
  readonly x: GPUBuffer; // [T, D] f32
}

/** Embedding gather of the tokens whose id lies in this block of rows; the others are left as they are. */
export function embed(context: KernelContext, args: EmbedArgs): Promise<Op> {
  const { hiddenSize, rowStart, rows, dtype } = args;
  const stride = denseStride(hiddenSize, dtype);
  const params = context.arena.uniform('embed.params', { D: hiddenSize, rowStart, rows, stride });
  return makeOp(context, {
    label: 'embed',
    source,
    constants: { WORKGROUP: workgroup, F16: dtype === 'F16' ? 1 : 0 },
    bindings: [params, args.step, args.ids, args.table, args.x],
    grid: (numTokens) => [...foldGrid(Math.ceil((numTokens * hiddenSize) / workgroup)), 1],
  });
}
