/**
 * What a reply may ask beyond sampling: biased logits, tokens allowed one by one, log-probabilities. Buffers and operations
 * are made when the first reply asks; until then, and for all other replies, nothing of this exists.
 */
import { BufferArena, GpuMemoryError } from '../gpu/arena';
import { type ArgmaxArgs, argmax } from '../kernels/argmax';
import { logitAdjust, maskWords } from '../kernels/logit-adjust';
import type { KernelContext, Op } from '../kernels/op';
import { type SampleArgs, sample } from '../kernels/sample';
import { LogitBiasError } from './errors';
import { ReadbackQueue } from './readback';
import type { GenerateOptions, TokenConstraint } from './types';

/** Whether a reply needs the sampler to see other logits than the model's. */
export function isGuided({ logitBias, constraint }: GenerateOptions): boolean {
  return constraint !== undefined || (logitBias !== undefined && logitBias.size > 0);
}

/** @throws LogitBiasError for a token outside the vocabulary, or a bias that is not finite */
export function checkLogitBias({ logitBias }: GenerateOptions, vocabSize: number): void {
  for (const [id, bias] of logitBias ?? []) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw new LogitBiasError(id, `a token of the vocabulary of ${vocabSize}`, id);
    }
    if (!Number.isFinite(bias)) throw new LogitBiasError(id, 'a finite number', bias);
  }
}

export class Guidance {
  private constructor(
    readonly device: GPUDevice,
    readonly arena: BufferArena,
    readonly vocabSize: number,
    readonly bias: GPUBuffer, // [V] f32
    readonly mask: GPUBuffer, // [⌈V / 32⌉] u32
    /** Adjust the logits, then draw; in the sampler's place. */
    readonly greedy: readonly Op[],
    readonly sampled: readonly Op[],
  ) {}

  /** `draw` is what the plain sampler works on. Adds 8.1 bytes per token of the vocabulary. @throws GpuMemoryError */
  static async create(context: KernelContext, draw: ArgmaxArgs & SampleArgs): Promise<Guidance> {
    const { device } = context.gpu;
    const { vocabSize, logits } = draw;
    const arena = new BufferArena(device);
    const own: KernelContext = { ...context, arena };
    device.pushErrorScope('out-of-memory');
    const floats = (label: string, count: number) => arena.create(label, 4 * count, { category: 'scratch' });
    const bias = floats('logit_bias', vocabSize);
    const mask = floats('token_mask', maskWords(vocabSize));
    const y = floats('adjusted_logits', vocabSize);
    const error = await device.popErrorScope();
    if (error) {
      arena.destroy();
      throw new GpuMemoryError('logit bias and mask', arena.totalBytes, error.message);
    }
    const [adjust, greedy, sampled] = await Promise.all([
      logitAdjust(own, { vocabSize, logits, bias, mask, y }),
      argmax(own, { ...draw, logits: y }),
      sample(own, { ...draw, logits: y }),
    ]);
    return new Guidance(device, arena, vocabSize, bias, mask, [adjust, ...greedy], [adjust, ...sampled]);
  }

  /** Sets bias and mask for a new reply. */
  begin({ logitBias, constraint }: GenerateOptions): void {
    const bias = new Float32Array(this.vocabSize);
    for (const [id, value] of logitBias ?? []) bias[id] = value;
    this.device.queue.writeBuffer(this.bias, 0, bias);
    if (constraint) this.writeMask(constraint);
    else {
      const all = new Uint32Array(maskWords(this.vocabSize)).fill(0xffffffff);
      this.device.queue.writeBuffer(this.mask, 0, all);
    }
  }

  /** For the next pass that is submitted. */
  writeMask(constraint: TokenConstraint): void {
    this.device.queue.writeBuffer(this.mask, 0, constraint.mask());
  }

  destroy(): void {
    this.arena.destroy();
  }
}

/** Copies of the logits of each pass that draws a token. */
export function logitsReadback(device: GPUDevice, vocabSize: number): ReadbackQueue {
  return new ReadbackQueue(device, 'logits', 4 * vocabSize);
}
