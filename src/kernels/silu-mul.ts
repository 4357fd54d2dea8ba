import shared from '../../shaders/silu.wgsl?raw';
import source from '../../shaders/silu_mul.wgsl?raw';
import { foldGrid, type KernelContext, makeOp, type Op } from './op';

const workgroup = 64;

export interface SiluMulArgs {
  /** F, the FFN size. */
  readonly ffnSize: number;
  /** Step uniform: `numTokens`, `position`. */
  readonly step: GPUBuffer;
  readonly gateUp: GPUBuffer; // [T, 2F] f32, rows interleaved: gate 0, up 0, gate 1, up 1, …
  readonly y: GPUBuffer; // [T, F] f32
}

/** SwiGLU's gate, `silu(gate)·up`, elementwise in float32. */
export function siluMul(context: KernelContext, args: SiluMulArgs): Promise<Op> {
  const params = context.arena.uniform('silu_mul.params', { F: args.ffnSize });
  return makeOp(context, {
    label: 'silu_mul',
    source: `${shared}\n${source}`,
    constants: { WORKGROUP: workgroup },
    bindings: [params, args.step, args.gateUp, args.y],
    grid: (numTokens) => [...foldGrid(Math.ceil((numTokens * args.ffnSize) / workgroup)), 1],
  });
}
