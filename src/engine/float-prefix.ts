/** Keys and values of the artifact's float prefix tokens, put in the cache in front of a sequence that begins with them. */
import { hasPrefix } from '../format/prefix';
import { qkvRows } from '../format/tensors';
import { placeOf } from '../gpu/arena';
import { encodeOp, type KernelContext, type Op } from '../kernels/op';
import { ropeAppend } from '../kernels/rope-append';
import { kvCacheArgs, type Scratch } from '../model/scratch';
import type { ModelWeights } from '../model/weights';

export class FloatPrefix {
  private constructor(
    readonly device: GPUDevice,
    readonly ids: readonly number[],
    readonly weights: ModelWeights,
    readonly scratch: Scratch,
    /** Rotates and stores what `scratch.qkv` holds, a layer each. */
    readonly ops: readonly Op[],
  ) {}

  /** Null for a model without one. @throws ShaderError */
  static async create(
    context: KernelContext,
    weights: ModelWeights,
    scratch: Scratch,
  ): Promise<FloatPrefix | null> {
    const { config, quant } = weights.layout;
    if (!quant?.prefix) return null;
    const { numHeads, numKvHeads, headDim } = config;
    const { step, qkv, rope: table, contextLength } = scratch;
    const shared = { numHeads, numKvHeads, headDim, contextLength, step, qkv, table };
    const ops = weights.layers.map((_, layer) =>
      ropeAppend(context, { ...shared, ...kvCacheArgs(scratch, layer) }),
    );
    const { ids } = quant.prefix;
    return new FloatPrefix(context.gpu.device, ids, weights, scratch, await Promise.all(ops));
  }

  /** Whether a prompt begins with these tokens and goes on. */
  fits(promptIds: readonly number[]): boolean {
    return hasPrefix(promptIds, this.ids);
  }

  /** Fills positions 0 to P − 1 of every layer's cache. The scratch buffers must be free. */
  load(): void {
    const { device, ids, scratch } = this;
    for (let position = 0; position < ids.length; position += scratch.chunkTokens) {
      const tokens = Math.min(scratch.chunkTokens, ids.length - position);
      device.queue.writeBuffer(scratch.step, 0, new Uint32Array([tokens, position, 0, 0]));
      device.queue.submit([this.#encode(position, tokens)]);
    }
  }

  #encode(position: number, tokens: number): GPUCommandBuffer {
    const { device, weights, scratch, ops } = this;
    const { config } = weights.layout;
    const rowBytes = 4 * qkvRows(config);
    const kvBytes = 8 * config.numKvHeads * config.headDim;
    const encoder = device.createCommandEncoder();
    weights.layers.forEach(({ prefix }, layer) => {
      const { buffer, offset } = placeOf(prefix!);
      for (let t = 0; t < tokens; t++) {
        const from = offset + (position + t) * kvBytes;
        encoder.copyBufferToBuffer(buffer, from, scratch.qkv, (t + 1) * rowBytes - kvBytes, kvBytes);
      }
      const pass = encoder.beginComputePass();
      encodeOp(pass, ops[layer]!, tokens);
      pass.end();
    });
    return encoder.finish();
  }
}
