import order from '../../shaders/sample_order.wgsl?raw';
import source from '../../shaders/token_nll.wgsl?raw';
import { requireBytes } from './argmax';
import { foldGrid, type KernelContext, makeOp, type Op, requireShape } from './op';

export interface TokenNllArgs {
  /** V. */
  readonly vocabSize: number;
  /** Step uniform: `numTokens`. */
  readonly step: GPUBuffer;
  readonly logits: GPUBuffer; // [T, V] f32
  /** The token that follows; 0xffffffff where there is none. */
  readonly targets: GPUBuffer; // [T] u32
  readonly nll: GPUBuffer; // [T] f32
  /** Most probable token; 0xffffffff for a row with a NaN or without a finite maximum. */
  readonly top: GPUBuffer; // [T] u32
}

/**
 * −ln softmax(logits[t])[targets[t]] in nats, and each row's most probable token (lowest id among equals).
 * No target: 0. An unusable row or a target ≥ V: NaN. A target of logit −∞: +∞.
 * @throws KernelShapeError
 */
export function tokenNll(context: KernelContext, args: TokenNllArgs): Promise<Op> {
  const { vocabSize } = args;
  requireShape(
    Number.isInteger(vocabSize) && vocabSize >= 1,
    'token_nll',
    `vocabSize >= 1, got ${vocabSize}`,
  );
  requireBytes('token_nll', 'logits', args.logits, 4 * vocabSize);
  const params = context.arena.uniform('token_nll.params', { V: vocabSize });
  return makeOp(context, {
    label: 'token_nll',
    source: `${order}\n${source}`,
    bindings: [params, args.step, args.logits, args.targets, args.nll, args.top],
    grid: (numTokens) => [...foldGrid(numTokens), 1],
  });
}
