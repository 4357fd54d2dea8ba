import source from '../../shaders/quant_dynamic.wgsl?raw';
import shared from '../../shaders/quantize.wgsl?raw';
import { type ActBits, qMax } from '../format/scheme';
import { type KernelContext, makeOp, type Op, requireShape } from './op';
import { type QuantizedOutput, type QuantizerTuning, quantizerThreads } from './quantizer';

/** Words of q, four elements each, that an invocation can keep in registers: rows of up to 11,264 with 256 invocations. */
const mostKept = 11;

export interface QuantDynamicArgs extends QuantizedOutput {
  /** K, the length of a row of x; any number. */
  readonly inputs: number;
  /** K', K rounded up to a multiple of 32. */
  readonly paddedInputs: number;
  readonly actBits: ActBits;
  /** Clip ratio r. */
  readonly ratio: number;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly x: GPUBuffer; // [T, K] f32, its size a multiple of 16
  readonly tuning?: QuantizerTuning;
}

/**
 * Per-token dynamic quantization: `s_t = ratio·max|x| / Qmax`, `q = clamp(round(x / s_t))`. A token whose scale would be
 * zero or subnormal gets q = 0 and scale 0.
 * @throws KernelShapeError
 */
export async function quantDynamic(context: KernelContext, args: QuantDynamicArgs): Promise<Op> {
  const label = 'quant_dynamic';
  const threads = quantizerThreads(context, label, args.inputs, args.paddedInputs, args, args.tuning);
  requireShape(args.ratio > 0, label, `a positive clip ratio, not ${args.ratio}`);
  const params = context.arena.uniform(`${label}.params`, {
    K: args.inputs,
    kWords: args.paddedInputs / 4,
    qMax: { f32: qMax(args.actBits) },
    scaleFactor: { f32: args.ratio / qMax(args.actBits) },
  });
  return makeOp(context, {
    label,
    source: `${shared}\n${source}`,
    constants: {
      WORKGROUP: threads,
      KEPT: Math.min(mostKept, Math.ceil(args.paddedInputs / 4 / threads)),
      IN_FOURS: Number(args.inputs % 4 === 0),
    },
    bindings: [params, args.step, args.x, args.q, args.qmeta],
    grid: (numTokens) => [numTokens, 1, 1],
  });
}
