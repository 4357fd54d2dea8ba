import choose from '../../shaders/argmax_choose.wgsl?raw';
import partial from '../../shaders/argmax_partial.wgsl?raw';
import rows from '../../shaders/argmax_rows.wgsl?raw';
import advance from '../../shaders/sample_advance.wgsl?raw';
import order from '../../shaders/sample_order.wgsl?raw';
import { type KernelContext, makeOp, type Op, requireShape } from './op';

/** Logits one workgroup of the first stage reduces. */
const tokensPerGroup = 1024;

/** What {@link argmax} and {@link sample} leave in `history` when logits held a NaN or had no finite maximum. */
export const noToken = 0xffffffff;

/** The buffers through which a pass hands its token to the next one. The last operation of a pass advances them. */
export interface DecodeState {
  /**
   * u32 [4] {numTokens, position, generated, reserved}, uniform and storage.
   * Advanced: position += numTokens, numTokens = 1, generated += 1.
   */
  readonly step: GPUBuffer;
  /** u32 [chunk]. The token goes to ids[0]; 0 when there is none. */
  readonly ids: GPUBuffer;
  /** u32 [historyCapacity]. The token, or {@link noToken}, goes to history[generated mod historyCapacity]. */
  readonly history: GPUBuffer;
  readonly historyCapacity: number;
  /** u32 [V]. Bit 31: the token occurs in the prompt; low 31 bits: its occurrences in the reply, incremented. */
  readonly counts: GPUBuffer;
}

export interface ArgmaxArgs extends DecodeState {
  /** V. */
  readonly vocabSize: number;
  readonly logits: GPUBuffer; // [V] f32
  /** Scratch of {@link argmaxPartialsBytes} bytes. */
  readonly partials: GPUBuffer; // [⌈V / 1024⌉] (ordered key, index)
}

/** Workgroups of the kernels that give each 1024 tokens. */
export function tokenGroups(vocabSize: number): number {
  return Math.ceil(vocabSize / tokensPerGroup);
}

/** Bytes of {@link ArgmaxArgs.partials}. */
export function argmaxPartialsBytes(vocabSize: number): number {
  return 8 * tokenGroups(vocabSize);
}

/** @throws KernelShapeError when a buffer of the state is too small for the vocabulary or the history. */
export function requireDecodeState(kernel: string, vocabSize: number, state: DecodeState): void {
  requireShape(Number.isInteger(vocabSize) && vocabSize >= 1, kernel, `vocabSize >= 1, got ${vocabSize}`);
  const { historyCapacity: capacity } = state;
  requireShape(Number.isInteger(capacity) && capacity >= 1, kernel, `historyCapacity >= 1, got ${capacity}`);
  requireBytes(kernel, 'step', state.step, 16);
  requireBytes(kernel, 'ids', state.ids, 4);
  requireBytes(kernel, 'history', state.history, 4 * capacity);
  requireBytes(kernel, 'counts', state.counts, 4 * vocabSize);
}

/** @throws KernelShapeError when the buffer is smaller than `bytes`. */
export function requireBytes(kernel: string, name: string, buffer: GPUBuffer, bytes: number): void {
  requireShape(buffer.size >= bytes, kernel, `${name} of at least ${bytes} bytes, got ${buffer.size}`);
}

/**
 * Greedy choice without penalties, and the state's advance: two dispatches, one read of the logits.
 * Ties go to the lowest id. A NaN anywhere, or a maximum that is not finite, yields {@link noToken} in the history.
 * @throws KernelShapeError
 */
export async function argmax(context: KernelContext, args: ArgmaxArgs): Promise<Op[]> {
  const { vocabSize, logits, partials } = args;
  requireDecodeState('argmax', vocabSize, args);
  requireBytes('argmax', 'logits', logits, 4 * vocabSize);
  requireBytes('argmax', 'partials', partials, argmaxPartialsBytes(vocabSize));
  const groups = tokenGroups(vocabSize);
  const params = context.arena.uniform('argmax.params', {
    V: vocabSize,
    groups,
    capacity: args.historyCapacity,
  });
  return Promise.all([
    makeOp(context, {
      label: 'argmax_partial',
      source: `${order}\n${partial}`,
      constants: { GROUP: context.gpu.caps.software ? 64 : 256 },
      bindings: [params, logits, partials],
      grid: () => [groups, 1, 1],
    }),
    makeOp(context, {
      label: 'argmax_choose',
      source: `${order}\n${advance}\n${choose}`,
      bindings: [params, args.step, args.ids, args.history, args.counts, partials],
      grid: () => [1, 1, 1],
    }),
  ]);
}

export interface ArgmaxRowsArgs {
  readonly vocabSize: number;
  /** Step uniform: `numTokens`, the rows. */
  readonly step: GPUBuffer;
  readonly logits: GPUBuffer; // [T, V] f32
  readonly ids: GPUBuffer; // [T] u32
}

/** The token {@link argmax} would draw from each row of logits, or {@link noToken}. Changes no state. @throws KernelShapeError */
export function argmaxRows(context: KernelContext, args: ArgmaxRowsArgs): Promise<Op> {
  const { vocabSize, step, logits, ids } = args;
  requireShape(
    Number.isInteger(vocabSize) && vocabSize >= 1,
    'argmax_rows',
    `vocabSize >= 1, got ${vocabSize}`,
  );
  requireBytes('argmax_rows', 'logits', logits, 4 * vocabSize);
  const params = context.arena.uniform('argmax_rows.params', { V: vocabSize });
  return makeOp(context, {
    label: 'argmax_rows',
    source: `${order}\n${rows}`,
    constants: { GROUP: context.gpu.caps.software ? 64 : 256 },
    bindings: [params, step, logits, ids],
    grid: (numTokens) => [numTokens, 1, 1],
  });
}
