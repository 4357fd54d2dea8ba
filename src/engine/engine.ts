/** Autoregressive generation on one model: chunked prefill, decode with tokens in flight, a KV cache kept across replies. */
import type { Gpu } from '../gpu/gpu';
import type { KernelContext } from '../kernels/op';
import type { Scratch } from '../model/scratch';
import type { ModelWeights } from '../model/weights';
import { checkRequest } from './check-request';
import { decode } from './decode';
import type { TunedDecode } from './decode-tuning';
import type { DraftStats } from './drafted-decode';
import { canDraft, type Drafting, decodeDrafted } from './drafting';
import {
  DeviceLostError,
  EngineBusyError,
  GpuOperationError,
  NonFiniteLogitsError,
  PersistentStoppedError,
} from './errors';
import type { FloatPrefix } from './float-prefix';
import { type EngineOptions, resolveOptions } from './options';
import { buildParts, type EngineParts } from './parts';
import { PassRunner } from './pass-runner';
import type { Passes } from './passes';
import { hasStopped, type PersistentState } from './persistent-decode';
import { Prefill } from './prefill';
import type { Reply } from './reply';
import { ReplyClock } from './reply-clock';
import { Sampler } from './sampler';
import type { FinishReason, GenerateOptions, ReplyStats } from './types';

/** What a finished (or cancelled) reply leaves behind. */
export interface Generation {
  readonly finishReason: FinishReason;
  readonly stats: ReplyStats;
}

/** Token ids; `next(true)` asks for the end. */
export type TokenStream = AsyncGenerator<number, Generation, boolean | undefined>;

export class Engine {
  readonly context: KernelContext;
  readonly scratch: Scratch;
  /** How decode's products were tuned; null where they were not. */
  readonly tuned: TunedDecode | null;
  passes: Passes;
  /** Whether tokens are decoded in one dispatch; null where it was not asked for. */
  persistent: PersistentState | null;
  /** Float keys and values that a sequence beginning with the artifact's prefix takes; null without. */
  readonly prefix: FloatPrefix | null;
  /** The cache's first positions hold them. */
  #prefixed = false;
  /** Without the whole-token kernel. */
  readonly #ordinary: Passes;
  readonly #drafting: Drafting | null;
  readonly #runner: PassRunner;
  readonly #sampler: Sampler;
  readonly #prefill: Prefill;
  /** Token ids whose keys and values are in the cache, in order from position 0. */
  readonly #cached: number[] = [];
  #busy = false;
  #lost: string | null = null;

  private constructor(
    readonly gpu: Gpu,
    readonly weights: ModelWeights,
    { context, scratch, draw, tuned, passes, persistent, drafting, check, prefix }: EngineParts,
  ) {
    this.context = context;
    this.scratch = scratch;
    this.tuned = tuned;
    this.#ordinary = this.passes = passes;
    this.persistent = persistent;
    this.prefix = prefix;
    this.#drafting = drafting;
    this.#runner = new PassRunner(gpu.device, scratch, draw, check);
    this.#sampler = new Sampler(context, draw, passes);
    this.#prefill = new Prefill(this.#runner);
    this.usePersistent(true);
    gpu.device.lost.then(({ message, reason }) => {
      this.#lost = `${reason}: ${message}`;
    });
  }

  /**
   * Allocates cache and scratch and compiles all pipelines.
   * @throws GpuMemoryError, ShaderError, InvalidRequestError when a layer is to be checked behind a cache with codes
   */
  static async create(gpu: Gpu, weights: ModelWeights, options: EngineOptions = {}): Promise<Engine> {
    return new Engine(gpu, weights, await buildParts(gpu, weights, resolveOptions(gpu, weights, options)));
  }

  get contextLength(): number {
    return this.scratch.contextLength;
  }

  /** GPU bytes by category, weights included. */
  get memory(): Record<string, number> {
    const sum: Record<string, number> = {};
    for (const arena of [this.weights.arena, this.context.arena]) {
      for (const [category, bytes] of Object.entries(arena.bytesByCategory)) {
        sum[category] = (sum[category] ?? 0) + bytes;
      }
    }
    return sum;
  }

  /** Dispatches of one decoded token. */
  get dispatchesPerToken(): number {
    return this.passes.decode.length + this.passes.head.length + this.passes.greedy.length;
  }

  /** Decodes with the whole-token kernel or, to compare, with the operations it stands for. Does nothing where it is off. */
  usePersistent(isUsed: boolean): void {
    if (!this.persistent?.isOn) return;
    const { ops } = this.persistent.layers;
    this.passes = isUsed ? { ...this.#ordinary, decode: ops } : this.#ordinary;
  }

  /** Forgets the conversation. */
  reset(): void {
    this.#cached.length = 0;
  }

  /** Frees the KV cache and scratch, and the weights. */
  destroy(): void {
    this.#runner.destroy();
    this.#sampler.destroy();
    this.#drafting?.verifier.destroy();
    this.context.arena.destroy();
    this.weights.arena.destroy();
  }

  /**
   * Generates a reply token by token, a stop token included. What the cache already holds of the prompt is not computed
   * again. Answering a token with `next(true)` ends the reply there as if it were a stop token; leaving the loop early or
   * aborting `signal` leaves the engine ready for the next reply, too.
   * @throws InvalidRequestError, SamplingParameterError, LogitBiasError, ContextFullError, EngineBusyError, NonFiniteLogitsError, DeviceLostError, GpuOperationError, LayerCheckError, PersistentStoppedError
   */
  async *generate(promptIds: readonly number[], options: GenerateOptions): TokenStream {
    if (this.#lost !== null) throw new DeviceLostError(`the GPU device was lost (${this.#lost})`);
    if (this.#busy) throw new EngineBusyError();
    checkRequest(promptIds, options, this.weights.layout.config.vocabSize, this.contextLength);
    this.#busy = true;
    const { device } = this.gpu;
    device.pushErrorScope('validation');
    try {
      return yield* this.#reply(promptIds, options);
    } catch (error) {
      this.reset();
      await new Promise((resolve) => setTimeout(resolve)); // lets a loss that caused the error be reported
      if (this.#lost !== null) throw new DeviceLostError(`the GPU device was lost (${this.#lost})`);
      throw (await this.#hasLeftPersistent(error)) ? new PersistentStoppedError() : error;
    } finally {
      await this.#runner.drain();
      this.#busy = false;
      const error = await device.popErrorScope().catch(() => null);
      if (error) {
        this.reset();
        // biome-ignore lint/correctness/noUnsafeFinally: a rejected GPU operation makes whatever was returned worthless
        throw new GpuOperationError(error.message);
      }
    }
  }

  /** Goes back to the ordinary kernels for good when the whole-token kernel has given up: it leaves NaN behind. */
  async #hasLeftPersistent(error: unknown): Promise<boolean> {
    if (!this.persistent?.isOn || !(error instanceof NonFiniteLogitsError)) return false;
    if (!(await hasStopped(this.gpu.device, this.persistent.layers))) return false;
    this.usePersistent(false);
    this.persistent = { isOn: false, reason: 'its workgroups waited too long for each other' };
    return true;
  }

  async *#reply(promptIds: readonly number[], options: GenerateOptions): TokenStream {
    const clock = new ReplyClock();
    const reply = await this.#begin(promptIds, options);
    const cachedTokens = this.#reuse(promptIds);
    const isPrefilled = await this.#prefill.run(reply, cachedTokens);
    clock.prefilled();
    const drafts = this.#drafting && canDraft(reply) ? { passes: 0, drafted: 0, accepted: 0 } : null;
    const finishReason = isPrefilled ? yield* this.#decode(reply, clock, drafts) : 'cancelled';
    const { check } = this.#runner;
    const stats = {
      ...clock.stats(promptIds.length, cachedTokens),
      dispatchesPerToken: reply.passes.decode.length + reply.draw.length,
      ...(check ? { layerCheck: check.report } : {}),
      ...(drafts ? { promptLookup: drafts } : {}),
    };
    return { finishReason, stats };
  }

  /** Cuts the cache down to what the prompt begins with, or to the float prefix. @returns tokens that need no pass */
  #reuse(promptIds: readonly number[]): number {
    const { prefix } = this;
    const cached = Math.min(commonPrefix(this.#cached, promptIds), promptIds.length - 1);
    this.#cached.length = cached;
    if (!prefix) return cached;
    if (!prefix.fits(promptIds)) {
      this.#prefixed &&= cached >= prefix.ids.length;
      return cached;
    }
    if (this.#prefixed && cached >= prefix.ids.length) return cached;
    prefix.load();
    this.#prefixed = true;
    this.#cached.splice(0, cached, ...prefix.ids);
    return prefix.ids.length;
  }

  /** Sets sampler and read-backs up for a new reply. */
  async #begin(promptIds: readonly number[], options: GenerateOptions): Promise<Reply> {
    const { passes } = this;
    const [runner, sampler, cached] = [this.#runner, this.#sampler, this.#cached];
    runner.begin(options);
    const draw = [...passes.head, ...(await sampler.begin(promptIds, options))];
    return { promptIds, options, runner, sampler, passes, draw, cached };
  }

  /** Yields the reply's tokens as they arrive; `drafts` counts where tokens are drafted, null where they are not. */
  async *#decode(
    reply: Reply,
    clock: ReplyClock,
    drafts: DraftStats | null,
  ): AsyncGenerator<number, FinishReason, boolean | undefined> {
    const tokens = drafts ? decodeDrafted(reply, this.#drafting!, drafts) : decode(reply);
    for (;;) {
      const { value, done } = await tokens.next();
      if (done) return value;
      await this.#runner.check?.settled();
      clock.token();
      if (yield value) {
        await tokens.return('stop');
        return 'stop';
      }
    }
  }
}

/** Length of the longest common prefix. */
function commonPrefix(a: readonly number[], b: readonly number[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}
