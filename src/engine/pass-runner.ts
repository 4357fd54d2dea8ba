/** Submits passes over tokens and brings back what they draw. */
import { encodeOp, type Op } from '../kernels/op';
import type { Scratch } from '../model/scratch';
import { logitsReadback } from './guidance';
import type { LayerCheck } from './layer-check';
import { type DrawnLogprobs, drawnLogprobs } from './logprobs';
import type { ReadbackQueue } from './readback';
import type { DrawArgs } from './sampler';
import { TokenReader } from './token-stream';
import type { GenerateOptions } from './types';

export class PassRunner {
  readonly #tokens: TokenReader;
  /** Made by the first reply that asks for log-probabilities. */
  #logitsReadback: ReadbackQueue | null = null;
  /** Where the running reply's logits are copied to; null when nobody wants them. */
  #logits: ReadbackQueue | null = null;

  constructor(
    readonly device: GPUDevice,
    readonly scratch: Scratch,
    readonly draw: DrawArgs,
    readonly check: LayerCheck | null,
  ) {
    this.#tokens = new TokenReader(device, draw.history, draw.historyCapacity);
  }

  /** Whether the running reply's logits are read back: {@link nextLogprobs} has one answer for each token. */
  get readsLogits(): boolean {
    return this.#logits !== null;
  }

  /** Sets what the passes of a new reply bring back. */
  begin({ onLogprobs }: GenerateOptions): void {
    if (onLogprobs) this.#logitsReadback ??= logitsReadback(this.device, this.draw.vocabSize);
    this.#logits = onLogprobs ? this.#logitsReadback : null;
  }

  /** Writes the tokens of the next pass, which starts at `position`. Without it a pass takes the token drawn before. */
  feed(ids: readonly number[], position: number): void {
    const { queue } = this.device;
    queue.writeBuffer(this.scratch.ids, 0, new Uint32Array(ids));
    queue.writeBuffer(this.scratch.step, 0, new Uint32Array([ids.length, position, 0, 0]));
  }

  /** Submits one pass that ends before position `end`; `generated` is the number of the token it draws, null for none. */
  submit(ops: readonly Op[], numTokens: number, end: number, generated: number | null): void {
    const encoder = this.device.createCommandEncoder();
    if (this.check) {
      this.check.encode(encoder, ops, numTokens, end);
    } else {
      const pass = encoder.beginComputePass();
      for (const op of ops) encodeOp(pass, op, numTokens);
      pass.end();
    }
    const token = generated === null ? null : this.#tokens.encode(encoder, generated);
    const logits = generated === null ? undefined : this.#logits?.encode(encoder, this.scratch.logits);
    this.device.queue.submit([encoder.finish()]);
    if (token) this.#tokens.submitted(token);
    this.check?.submitted();
    if (logits) this.#logits?.submitted(logits);
  }

  /** The oldest token in flight; `noToken` where its logits were not finite. */
  nextToken(): Promise<number> {
    return this.#tokens.next();
  }

  /** Log-probabilities of token `id`, the one {@link nextToken} returned last, and of the `top` most probable ones. */
  nextLogprobs(id: number, top: number): Promise<DrawnLogprobs> {
    return this.#logits!.next((data) => drawnLogprobs(new Float32Array(data), id, top));
  }

  /** Waits for everything in flight and forgets it. */
  async drain(): Promise<void> {
    await this.#tokens.drain().catch(() => undefined);
    await this.#logits?.drain().catch(() => undefined);
  }

  destroy(): void {
    this.#tokens.destroy();
    this.#logitsReadback?.destroy();
  }
}
