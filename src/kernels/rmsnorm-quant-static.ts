import shared from '../../shaders/quantize.wgsl?raw';
import source from '../../shaders/rmsnorm_quant_static.wgsl?raw';
import { type ActBits, qMax } from '../format/scheme';
import type { GpuMemory } from '../gpu/arena';
import { type KernelContext, makeOp, type Op, requireShape } from './op';
import { type QuantizedOutput, type QuantizerTuning, quantizerThreads } from './quantizer';

export interface RmsnormQuantStaticArgs extends QuantizedOutput {
  /** D, the length of a row of x. */
  readonly hiddenSize: number;
  /** K', the gathered and padded length, a multiple of 32. */
  readonly inputs: number;
  readonly eps: number;
  readonly actBits: ActBits;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly x: GPUBuffer; // [T, D] f32
  /** As `packGather` makes it. */
  readonly gather: GpuMemory; // [K'] u32
  /** γ_k / s_k of each gathered channel; 0 for padding. */
  readonly mult: GpuMemory; // [K'] f32
  readonly tuning?: QuantizerTuning;
}

/**
 * RMSNorm with the static activation scales merged into its multiplier, gather and rounding (MergeQuant, Eq. 4–6):
 * `q = clamp(round(x[index]·mult / rms(x)) + offset)`; the scale in `qmeta` is 1.
 * @throws KernelShapeError
 */
export async function rmsnormQuantStatic(context: KernelContext, args: RmsnormQuantStaticArgs): Promise<Op> {
  const label = 'rmsnorm_quant_static';
  const { hiddenSize, inputs } = args;
  const threads = quantizerThreads(context, label, inputs, inputs, args, args.tuning);
  requireShape(hiddenSize > 0, label, `a positive hidden size, not ${hiddenSize}`);
  requireShape(
    args.gather.size >= 4 * inputs,
    label,
    `gather of ${4 * inputs} bytes, not ${args.gather.size}`,
  );
  requireShape(args.mult.size >= 4 * inputs, label, `mult of ${4 * inputs} bytes, not ${args.mult.size}`);
  const params = context.arena.uniform(`${label}.params`, {
    D: hiddenSize,
    kWords: inputs / 4,
    eps: { f32: args.eps },
    qMax: { f32: qMax(args.actBits) },
  });
  return makeOp(context, {
    label,
    source: `${shared}\n${source}`,
    constants: { WORKGROUP: threads },
    bindings: [params, args.step, args.x, args.gather, args.mult, args.q, args.qmeta],
    grid: (numTokens) => [numTokens, 1, 1],
  });
}
