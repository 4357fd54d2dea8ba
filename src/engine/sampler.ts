/** The sampler's buffers, its state for one reply, and the operations that draw a reply's tokens. */
import type { BufferArena } from '../gpu/arena';
import { type ArgmaxArgs, argmaxPartialsBytes } from '../kernels/argmax';
import type { KernelContext, Op } from '../kernels/op';
import { createSampleScratch, encodeSampling, type SampleArgs, samplingBytes } from '../kernels/sample';
import type { Scratch } from '../model/scratch';
import { Guidance, isGuided } from './guidance';
import type { Passes } from './passes';
import type { GenerateOptions, SamplingOptions, TokenConstraint } from './types';

/** What the sampler works on. */
export type DrawArgs = ArgmaxArgs & SampleArgs;

/** Allocates what the sampler needs beside the scratch of the passes: 8 bytes per token of vocabulary and 4 per position. */
export function createDrawArgs(arena: BufferArena, scratch: Scratch, vocabSize: number): DrawArgs {
  const { logits, ids, step, contextLength: historyCapacity } = scratch;
  return {
    ...{ vocabSize, logits, ids, step, historyCapacity },
    counts: arena.create('counts', 4 * vocabSize, { category: 'scratch' }), // [V] u32
    history: arena.create('history', 4 * historyCapacity, { category: 'scratch' }), // [context] u32
    sampling: arena.create('sampling', samplingBytes, { category: 'uniforms', usage: 0x40 | 0x8 }),
    partials: arena.create('argmax', argmaxPartialsBytes(vocabSize), { category: 'scratch' }),
    scratch: createSampleScratch(arena, vocabSize),
  };
}

/** Greedy without penalties: an argmax suffices. */
export function isPlainGreedy(sampling: SamplingOptions): boolean {
  const { temperature, repetitionPenalty, presencePenalty, frequencyPenalty } = sampling;
  return temperature === 0 && repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0;
}

export class Sampler {
  /** Made by the first reply that asks for a bias or a constraint. */
  #guidance: Guidance | null = null;

  constructor(
    readonly context: KernelContext,
    readonly args: DrawArgs,
    /** The operations that draw from the model's own logits. */
    readonly plain: Pick<Passes, 'greedy' | 'sampled'>,
  ) {}

  /** Resets the sampler's state for a new reply and returns the operations that draw its tokens. @throws GpuMemoryError */
  async begin(promptIds: readonly number[], options: GenerateOptions): Promise<readonly Op[]> {
    const { sampling } = options;
    const { queue } = this.context.gpu.device;
    const counts = new Uint32Array(this.args.vocabSize);
    for (const id of promptIds) counts[id] = 0x80000000;
    queue.writeBuffer(this.args.counts, 0, counts);
    queue.writeBuffer(this.args.sampling, 0, encodeSampling(sampling));
    const { greedy, sampled } = isGuided(options) ? await this.#guide(options) : this.plain;
    return isPlainGreedy(sampling) ? greedy : sampled;
  }

  /** For the next pass that is submitted, in a reply that {@link begin} was told of the constraint. */
  writeMask(constraint: TokenConstraint): void {
    this.#guidance?.writeMask(constraint);
  }

  destroy(): void {
    this.#guidance?.destroy();
  }

  /** The operations that draw from biased and masked logits, set up for a new reply. */
  async #guide(options: GenerateOptions): Promise<Guidance> {
    this.#guidance ??= await Guidance.create(this.context, this.args);
    this.#guidance.begin(options);
    return this.#guidance;
  }
}
