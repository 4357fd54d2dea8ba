import source from '../../shaders/embed.wgsl?raw';
import type { GpuMemory } from '../gpu/arena';
import { denseStride, elementBytes, type MatrixDtype } from './dense-layout';
import { foldGrid, type KernelContext, makeOp, type Op, requireShape } from './op';

const workgroup = 64;

export interface EmbedArgs {
  readonly hiddenSize: number; // D
  /** The first vocabulary row of this block, and how many it holds. */
  readonly rowStart: number;
  readonly rows: number;
  readonly dtype: MatrixDtype;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly ids: GPUBuffer; // [T] u32
  readonly table: GpuMemory; // [rows, denseStride(D)] of dtype
  /** For I8. */
  readonly scale?: GpuMemory | null; // [V] f32
  readonly x: GPUBuffer; // [T, D] f32
}

/** Embedding gather of the tokens whose id lies in this block of rows; the others are left as they are. @throws KernelShapeError for I8 without scales */
export function embed(context: KernelContext, args: EmbedArgs): Promise<Op> {
  const { hiddenSize, rowStart, rows, dtype, scale } = args;
  requireShape(dtype !== 'I8' || Boolean(scale), 'embed', 'scales for a table of bytes');
  const stride = denseStride(hiddenSize, dtype);
  const params = context.arena.uniform('embed.params', { D: hiddenSize, rowStart, rows, stride });
  return makeOp(context, {
    label: 'embed',
    source,
    constants: { WORKGROUP: workgroup, ELEMENT_BYTES: elementBytes[dtype] },
    // floats have no scales, but the layout wants a buffer
    bindings: [params, args.step, args.ids, args.table, args.x, scale ?? args.table],
    grid: (numTokens) => [...foldGrid(Math.ceil((numTokens * hiddenSize) / workgroup)), 1],
  });
}
