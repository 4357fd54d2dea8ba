import shared from '../../shaders/quantize.wgsl?raw';
import source from '../../shaders/rmsnorm_quant_dynamic.wgsl?raw';
import { type ActBits, qMax } from '../format/scheme';
import type { GpuMemory } from '../gpu/arena';
import { type KernelContext, makeOp, type Op, requireShape } from './op';
import { type QuantizedOutput, type QuantizerTuning, quantizerThreads } from './quantizer';

export interface RmsnormQuantDynamicArgs extends QuantizedOutput {
  /** D, the length of a row of x. */
  readonly hiddenSize: number;
  /** K', D rounded up to a multiple of 32. */
  readonly inputs: number;
  readonly eps: number;
  readonly actBits: ActBits;
  /** Clip ratio r. */
  readonly ratio: number;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly x: GPUBuffer; // [T, D] f32
  readonly weight: GpuMemory; // [D] f32, γ
  readonly tuning?: QuantizerTuning;
}

/**
 * RMSNorm and per-token dynamic quantization: `s_t = ratio·max|y| / Qmax`, `q = clamp(round(y / s_t))`, y the norm's
 * output. A token whose scale would be zero or subnormal gets q = 0 and scale 0.
 * @throws KernelShapeError
 */
export async function rmsnormQuantDynamic(
  context: KernelContext,
  args: RmsnormQuantDynamicArgs,
): Promise<Op> {
  const label = 'rmsnorm_quant_dynamic';
  const { hiddenSize, inputs } = args;
  const threads = quantizerThreads(context, label, hiddenSize, inputs, args, args.tuning);
  requireShape(args.ratio > 0, label, `a positive clip ratio, not ${args.ratio}`);
  requireShape(
    args.weight.size >= 4 * hiddenSize,
    label,
    `weight of ${4 * hiddenSize} bytes, not ${args.weight.size}`,
  );
  const params = context.arena.uniform(`${label}.params`, {
    D: hiddenSize,
    kWords: inputs / 4,
    eps: { f32: args.eps },
    qMax: { f32: qMax(args.actBits) },
    scaleFactor: { f32: args.ratio / qMax(args.actBits) },
  });
  return makeOp(context, {
    label,
    source: `${shared}\n${source}`,
    constants: { WORKGROUP: threads },
    bindings: [params, args.step, args.x, args.weight, args.q, args.qmeta],
    grid: (numTokens) => [numTokens, 1, 1],
  });
}
