import shared from '../../shaders/silu.wgsl?raw';
import source from '../../shaders/silu_hadamard.wgsl?raw';
import { foldGrid, type KernelContext, makeOp, type Op, requireShape } from './op';
import type { SiluMulArgs } from './silu-mul';

export interface SiluHadamardArgs extends SiluMulArgs {
  /** B, the length of a rotated block: a power of two from 2 to 2,048 that divides F. */
  readonly block: number;
}

/** Elements that a workgroup takes at least, so that short blocks do not leave it idle. */
const leastChunk = 256;

/**
 * SwiGLU's gate, `silu(gate)·up`, then the Walsh–Hadamard transform of each block of B elements over √B, in float32.
 * @throws KernelShapeError
 */
export async function siluHadamard(context: KernelContext, args: SiluHadamardArgs): Promise<Op> {
  const label = 'silu_hadamard';
  const { block, ffnSize } = args;
  const isPower = block >= 2 && block <= 2048 && Number.isInteger(Math.log2(block));
  requireShape(isPower, label, `a block that is a power of two from 2 to 2048, not ${block}`);
  requireShape(ffnSize % block === 0, label, `a block that divides the FFN size ${ffnSize}, not ${block}`);
  const chunk = Math.max(block, leastChunk);
  const params = context.arena.uniform(`${label}.params`, {
    F: ffnSize,
    block,
    scale: { f32: 1 / Math.sqrt(block) },
  });
  return makeOp(context, {
    label,
    source: `${shared}\n${source}`,
    constants: { WORKGROUP: Math.min(256, chunk / 2), CHUNK: chunk },
    bindings: [params, args.step, args.gateUp, args.y],
    grid: (numTokens) => [...foldGrid(Math.ceil((numTokens * ffnSize) / chunk)), 1],
  });
}
