/** One pass that feeds a few tokens at once and tells what the model draws greedily after each of them. */
import type { BufferArena } from '../gpu/arena';
import { argmaxRows } from '../kernels/argmax';
import { encodeOp, type KernelContext, type Op } from '../kernels/op';
import { buildFullHead, buildLayers } from '../model/forward';
import type { Scratch } from '../model/scratch';
import type { ModelWeights } from '../model/weights';

/** Tokens of the largest pass that can be built: more of them would read the weights again. */
export const mostVerified = 8;

export class DraftVerifier {
  private constructor(
    private readonly device: GPUDevice,
    private readonly scratch: Scratch,
    private readonly ops: readonly Op[],
    private readonly drawn: GPUBuffer, // [mostDrafted + 1] u32
    private readonly staging: GPUBuffer,
  ) {}

  /**
   * Builds the pass of one token and `mostDrafted` behind it, on the engine's own buffers and cache. Its arithmetic is decode's, token by token: the same bits.
   * @throws GpuMemoryError, ShaderError
   */
  static async create(
    context: KernelContext,
    weights: ModelWeights,
    scratch: Scratch,
    mostDrafted: number,
  ): Promise<DraftVerifier> {
    const { device } = context.gpu;
    const { vocabSize } = weights.layout.config;
    const chunkTokens = mostDrafted + 1;
    const { arena } = context;
    const floats = (label: string, count: number) => allocate(arena, label, 4 * count);
    const logits = floats('verify.logits', chunkTokens * vocabSize);
    const drawn = floats('verify.drawn', chunkTokens);
    const [layers, head, choice] = await Promise.all([
      buildLayers(context, weights, scratch, 'few'),
      buildFullHead(context, weights, scratch, logits, 'vector'),
      argmaxRows(context, { vocabSize, step: scratch.step, logits, ids: drawn }),
    ]);
    const staging = device.createBuffer({ label: 'verified', size: drawn.size, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    return new DraftVerifier(device, scratch, [...layers, ...head, choice], drawn, staging);
  }

  /** Dispatches of a pass. */
  get dispatches(): number {
    return this.ops.length;
  }

  /**
   * Feeds `ids`, at most one and `mostDrafted`, from `position` on, so that the cache holds their keys and values, and returns
   * what is drawn after each; `noToken` where logits are not finite.
   */
  async draw(ids: readonly number[], position: number): Promise<number[]> {
    const { queue } = this.device;
    queue.writeBuffer(this.scratch.ids, 0, new Uint32Array(ids));
    queue.writeBuffer(this.scratch.step, 0, new Uint32Array([ids.length, position, 0, 0]));
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const op of this.ops) encodeOp(pass, op, ids.length);
    pass.end();
    encoder.copyBufferToBuffer(this.drawn, 0, this.staging, 0, this.drawn.size);
    queue.submit([encoder.finish()]);
    await this.staging.mapAsync(0x1);
    const drawn = [...new Uint32Array(this.staging.getMappedRange()).subarray(0, ids.length)];
    this.staging.unmap();
    return drawn;
  }

  destroy(): void {
    this.staging.destroy();
  }
}

function allocate(arena: BufferArena, label: string, bytes: number): GPUBuffer {
  return arena.create(label, bytes, { category: 'scratch' });
}
