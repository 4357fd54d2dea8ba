import source from '../../shaders/quant_static.wgsl?raw';
import shared from '../../shaders/quantize.wgsl?raw';
import { type ActBits, qMax } from '../format/scheme';
import { type KernelContext, makeOp, type Op, requireShape } from './op';
import { type QuantizedOutput, type QuantizerTuning, quantizerThreads } from './quantizer';

export interface QuantStaticArgs extends QuantizedOutput {
  /** K, the length of a row of x; any number. */
  readonly inputs: number;
  /** K', K rounded up to a multiple of 32. */
  readonly paddedInputs: number;
  readonly actBits: ActBits;
  /** s, the size of one integer step, for all channels. */
  readonly stepSize: number;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly x: GPUBuffer; // [T, K] f32
  readonly tuning?: QuantizerTuning;
}

/**
 * Static quantization with one step: `q = clamp(round(x / s))`. The scale in `qmeta` is 1: s is folded into the scales of
 * the weights that follow, offline.
 * @throws KernelShapeError
 */
export async function quantStatic(context: KernelContext, args: QuantStaticArgs): Promise<Op> {
  const label = 'quant_static';
  const threads = quantizerThreads(context, label, args.inputs, args.paddedInputs, args, args.tuning);
  requireShape(args.stepSize > 0, label, `a positive step size, not ${args.stepSize}`);
  const params = context.arena.uniform(`${label}.params`, {
    K: args.inputs,
    kWords: args.paddedInputs / 4,
    qMax: { f32: qMax(args.actBits) },
    inverseStep: { f32: 1 / args.stepSize },
  });
  return makeOp(context, {
    label,
    source: `${shared}\n${source}`,
    constants: { WORKGROUP: threads },
    bindings: [params, args.step, args.x, args.q, args.qmeta],
    grid: (numTokens) => [numTokens, 1, 1],
  });
}
