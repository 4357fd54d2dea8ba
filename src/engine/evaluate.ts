/** Negative log-likelihoods of given tokens, on the engine's own kernels. */
import { encodeOp, type Op } from '../kernels/op';
import { tokenNll } from '../kernels/token-nll';
import { buildFullHead } from '../model/forward';
import type { Engine } from './engine';
import { InvalidRequestError } from './errors';

/** Marks a position without a target. */
const noTarget = 0xffffffff;

/** Scores windows of tokens: builds its operations once, then runs any number of windows. */
export class Evaluator {
  private constructor(
    readonly engine: Engine,
    readonly ops: readonly Op[],
    readonly targets: GPUBuffer,
    readonly nll: GPUBuffer,
    readonly top: GPUBuffer,
  ) {}

  /** Allocates logits for a whole chunk: [T, V] f32. @throws GpuMemoryError when that is over the device's binding limit */
  static async create(engine: Engine): Promise<Evaluator> {
    const { context, scratch, weights, passes } = engine;
    const { vocabSize } = weights.layout.config;
    const T = scratch.chunkTokens;
    const floats = (label: string, count: number) =>
      context.arena.create(label, 4 * count, { category: 'scratch' });
    const logits = floats('all_logits', T * vocabSize);
    const [targets, nll, top] = [floats('targets', T), floats('nll', T), floats('top', T)];
    const head = await buildFullHead(context, weights, scratch, logits);
    const score = await tokenNll(context, { vocabSize, logits, targets, nll, top, step: scratch.step });
    return new Evaluator(engine, [...passes.prefill, ...head, score], targets, nll, top);
  }

  /**
   * −log p(ids[i + 1] | ids[0..i]) for i = 0 … length − 2, in nats, float32.
   * @throws InvalidRequestError when the window has fewer than 2 tokens or more than the context holds
   */
  async window(ids: readonly number[]): Promise<Float32Array> {
    const { engine } = this;
    if (ids.length < 2 || ids.length > engine.contextLength) {
      throw new InvalidRequestError(`a window has 2 to ${engine.contextLength} tokens, got ${ids.length}`);
    }
    engine.reset();
    const result = new Float32Array(ids.length);
    const { prefix } = engine;
    const first = prefix?.fits(ids) ? prefix.ids.length : 0;
    for (let position = 0; position < ids.length; ) {
      const limit = position < first ? first : ids.length;
      const end = Math.min(position + engine.scratch.chunkTokens, limit);
      const targets = new Uint32Array(end - position).fill(noTarget);
      targets.set(ids.slice(position + 1, end + 1));
      result.set(await this.#chunk(ids.slice(position, end), targets, position), position);
      position = end;
      // what follows the prefix sees its float keys and values; its own logits are the quantized model's
      if (position === first && first > 0) prefix!.load();
    }
    return result.subarray(0, ids.length - 1);
  }

  async #chunk(
    ids: readonly number[],
    targets: Uint32Array<ArrayBuffer>,
    position: number,
  ): Promise<Float32Array> {
    const { device } = this.engine.gpu;
    const { scratch } = this.engine;
    device.queue.writeBuffer(scratch.ids, 0, new Uint32Array(ids));
    device.queue.writeBuffer(this.targets, 0, targets);
    device.queue.writeBuffer(scratch.step, 0, new Uint32Array([ids.length, position, 0, 0]));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const op of this.ops) encodeOp(pass, op, ids.length);
    pass.end();
    const staging = device.createBuffer({ size: 4 * ids.length, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    encoder.copyBufferToBuffer(this.nll, 0, staging, 0, 4 * ids.length);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(0x1);
    const values = new Float32Array(staging.getMappedRange().slice(0));
    staging.destroy();
    return values;
  }
}
