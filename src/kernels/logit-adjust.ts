import source from '../../shaders/logit_adjust.wgsl?raw';
import { requireBytes } from './argmax';
import { foldGrid, type KernelContext, makeOp, type Op, requireShape } from './op';

const workgroup = 64;

export interface LogitAdjustArgs {
  /** V. */
  readonly vocabSize: number;
  readonly logits: GPUBuffer; // [V] f32, not changed
  readonly bias: GPUBuffer; // [V] f32
  /** Bit v mod 32 of word ⌊v / 32⌋: token v may be drawn. */
  readonly mask: GPUBuffer; // [⌈V / 32⌉] u32
  readonly y: GPUBuffer; // [V] f32
}

/** Words of a mask over the vocabulary. */
export function maskWords(vocabSize: number): number {
  return Math.ceil(vocabSize / 32);
}

/**
 * Logits as the sampler is to see them: −∞ where the mask has no bit, the logit plus its bias elsewhere, in float32.
 * Logits that are not finite pass unchanged.
 * @throws KernelShapeError
 */
export async function logitAdjust(context: KernelContext, args: LogitAdjustArgs): Promise<Op> {
  const { vocabSize, logits, bias, mask, y } = args;
  requireShape(Number.isInteger(vocabSize) && vocabSize >= 1, 'logit_adjust', `V >= 1, got ${vocabSize}`);
  for (const [name, buffer] of Object.entries({ logits, bias, y })) {
    requireBytes('logit_adjust', name, buffer, 4 * vocabSize);
  }
  requireBytes('logit_adjust', 'mask', mask, 4 * maskWords(vocabSize));
  const params = context.arena.uniform('logit_adjust.params', { V: vocabSize });
  const [x, y0] = foldGrid(Math.ceil(vocabSize / workgroup));
  return makeOp(context, {
    label: 'logit_adjust',
    source,
    constants: { WORKGROUP: workgroup },
    bindings: [params, logits, bias, mask, y],
    grid: () => [x, y0, 1],
  });
}
