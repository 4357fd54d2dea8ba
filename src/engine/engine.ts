/** Autoregressive generation on one model: chunked prefill, decode with tokens in flight, a KV cache kept across replies. */
import type { KvCacheKind } from '../format/kv-cache';
import { chunkTokensFor } from '../format/memory-plan';
import { BufferArena, GpuMemoryError } from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import { PipelineCache } from '../gpu/pipelines';
import { argmax, argmaxPartialsBytes, noToken } from '../kernels/argmax';
import { encodeOp, type KernelContext, type Op } from '../kernels/op';
import type { PersistentTuning } from '../kernels/persistent-token';
import {
  createSampleScratch,
  encodeSampling,
  type SampleScratch,
  sample,
  samplingBytes,
} from '../kernels/sample';
import { buildHead, buildLayers } from '../model/forward';
import {
  buildDecodeLayers,
  buildLongDecodeLayers,
  canFuseDecode,
  longContextFrom,
} from '../model/forward-decode';
import { createScratch, type Scratch } from '../model/scratch';
import type { ModelWeights } from '../model/weights';
import { DraftVerifier, mostVerified } from './draft-verifier';
import { type DraftStats, draftedDecode } from './drafted-decode';
import {
  ContextFullError,
  DeviceLostError,
  EngineBusyError,
  GpuOperationError,
  InvalidRequestError,
  NonFiniteLogitsError,
  PersistentStoppedError,
} from './errors';
import { checkLogitBias, Guidance, isGuided, logitsReadback } from './guidance';
import { LayerCheck } from './layer-check';
import { drawnLogprobs } from './logprobs';
import { hasStopped, type PersistentState, tryPersistentDecode } from './persistent-decode';
import type { ReadbackQueue } from './readback';
import { flightDepth, TokenReader } from './token-stream';
import type { FinishReason, GenerateOptions, ReplyStats, SamplingOptions } from './types';

export interface EngineOptions {
  /** Tokens the KV cache holds; the model's own maximum when left out. */
  readonly contextLength?: number;
  /** Prompt tokens of the largest prefill pass; what suits the device when left out. */
  readonly chunkTokens?: number;
  /** How keys and values are kept: `int8` and `int4` take a half and a quarter of the memory of `f16`, the default. */
  readonly kvCache?: KvCacheKind;
  /**
   * Decode in one dispatch a token where the model's weights are packed ({@link WeightsLoader.create}), the GPU can, and the
   * results are those of the ordinary kernels; `Engine.persistent` says whether. Tuning is for tests and benchmarks.
   */
  readonly persistentDecode?: boolean | PersistentTuning;
  /**
   * Tokens drafted at most for one pass of greedy decoding from what the text holds already, 0 to 7; 0, the default, is off.
   * The same tokens either way. An experiment: see docs/LOG.md.
   */
  readonly promptLookup?: number;
}

/** What a finished (or cancelled) reply leaves behind. */
export interface Generation {
  readonly finishReason: FinishReason;
  readonly stats: ReplyStats;
}

/** Prefill passes queued at most, so that a cancel takes effect after one of them. */
const prefillInFlight = 2;
/** Tokens of the first prefill pass; while passes take less than this time, the next ones are twice as long. */
const firstPassTokens = 256;
const shortPassMs = 150;

/** The operations of every kind of pass, built once per model. */
interface Passes {
  readonly prefill: readonly Op[];
  readonly decode: readonly Op[];
  /** The same for positions from {@link longContextFrom}; null where `decode` is for all. */
  readonly longDecode: readonly Op[] | null;
  readonly head: readonly Op[];
  readonly greedy: readonly Op[];
  readonly sampled: readonly Op[];
}

/** What greedy replies are drafted with. */
interface Drafting {
  readonly verifier: DraftVerifier;
  /** Tokens at most for one pass. */
  readonly most: number;
}

/** Buffers the sampler works on. */
interface SamplerBuffers {
  readonly counts: GPUBuffer; // [V] u32
  readonly history: GPUBuffer; // [context] u32
  readonly sampling: GPUBuffer;
  readonly partials: GPUBuffer; // of the argmax
  readonly scratch: SampleScratch;
}

/** Token ids; `next(true)` asks for the end. */
export type TokenStream = AsyncGenerator<number, Generation, boolean | undefined>;

export class Engine {
  /** Token ids whose keys and values are in the cache, in order from position 0. */
  #cached: number[] = [];
  #busy = false;
  #lost: string | null = null;
  /** Long passes fill a large GPU; on a slow one they would hold up a cancel, and the system's display. */
  #passTokens = firstPassTokens;
  readonly #reader: TokenReader;
  /** Without the whole-token kernel. */
  readonly #ordinary: Passes;
  /** Made by the first reply that asks for a bias, a constraint, or log-probabilities. */
  #guidance: Guidance | null = null;
  #logitsReadback: ReadbackQueue | null = null;
  /** Where the running reply's logits are copied to; null when nobody wants them. */
  #logits: ReadbackQueue | null = null;

  private constructor(
    readonly gpu: Gpu,
    readonly weights: ModelWeights,
    readonly scratch: Scratch,
    readonly context: KernelContext,
    public passes: Passes,
    readonly sampler: SamplerBuffers,
    readonly check: LayerCheck | null,
    /** Whether tokens are decoded in one dispatch; null where it was not asked for. */
    public persistent: PersistentState | null,
    readonly drafting: Drafting | null,
  ) {
    this.#ordinary = passes;
    this.usePersistent(true);
    this.#reader = new TokenReader(gpu.device, sampler.history, scratch.contextLength);
    gpu.device.lost.then(({ message, reason }) => {
      this.#lost = `${reason}: ${message}`;
    });
  }

  /**
   * Allocates cache and scratch and compiles all pipelines.
   * @throws GpuMemoryError, ShaderError, InvalidRequestError when a layer is to be checked behind a cache with codes
   */
  static async create(gpu: Gpu, weights: ModelWeights, options: EngineOptions = {}): Promise<Engine> {
    const { config } = weights.layout;
    const contextLength = options.contextLength ?? config.maxPositionEmbeddings;
    const { software } = gpu.caps;
    const { kvCache = 'f16' } = options;
    if (weights.checked && kvCache !== 'f16') {
      throw new InvalidRequestError(`the layer check reads a KV cache of kind f16, got ${kvCache}`);
    }
    const { promptLookup = 0 } = options;
    if (!Number.isInteger(promptLookup) || promptLookup < 0 || promptLookup >= mostVerified) {
      throw new InvalidRequestError(
        `promptLookup: expected 0 to ${mostVerified - 1} tokens, got ${promptLookup}`,
      );
    }
    const most = software ? firstPassTokens : chunkTokensFor(gpu.device.limits.maxStorageBufferBindingSize);
    const chunkTokens = Math.min(options.chunkTokens ?? most, contextLength);
    const arena = new BufferArena(gpu.device);
    const context: KernelContext = { gpu, pipelines: PipelineCache.of(gpu), arena };
    gpu.device.pushErrorScope('out-of-memory');
    try {
      const scratch = createScratch(arena, weights, contextLength, chunkTokens, {
        software,
        kvCache,
        packed: Boolean(options.persistentDecode),
      });
      const sampler: SamplerBuffers = {
        counts: arena.create('counts', 4 * config.vocabSize, { category: 'scratch' }),
        history: arena.create('history', 4 * contextLength, { category: 'scratch' }),
        sampling: arena.create('sampling', samplingBytes, { category: 'uniforms', usage: 0x40 | 0x8 }),
        partials: arena.create('argmax', argmaxPartialsBytes(config.vocabSize), { category: 'scratch' }),
        scratch: createSampleScratch(arena, config.vocabSize),
      };
      const error = await gpu.device.popErrorScope();
      if (error) throw new GpuMemoryError('KV cache and scratch', arena.totalBytes, error.message);
      const passes = await buildPasses(context, weights, scratch, sampler);
      const persistent = await tryPersistent(context, weights, scratch, passes, options);
      const check = weights.checked ? new LayerCheck(gpu.device, scratch, weights.checked) : null;
      const drafting =
        promptLookup > 0
          ? {
              verifier: await DraftVerifier.create(context, weights, scratch, promptLookup),
              most: promptLookup,
            }
          : null;
      return new Engine(gpu, weights, scratch, context, passes, sampler, check, persistent, drafting);
    } catch (error) {
      arena.destroy();
      throw error;
    }
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
    this.passes = isUsed ? { ...this.#ordinary, decode: ops, longDecode: null } : this.#ordinary;
  }

  /** Forgets the conversation. */
  reset(): void {
    this.#cached = [];
  }

  /** Frees the KV cache and scratch, and the weights. */
  destroy(): void {
    this.#reader.destroy();
    this.#logitsReadback?.destroy();
    this.#guidance?.destroy();
    this.drafting?.verifier.destroy();
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
    this.#checkRequest(promptIds, options);
    this.#busy = true;
    const { device } = this.gpu;
    device.pushErrorScope('validation');
    try {
      return yield* this.#reply(promptIds, options);
    } catch (error) {
      this.#cached = [];
      await new Promise((resolve) => setTimeout(resolve)); // lets a loss that caused the error be reported
      if (this.#lost !== null) throw new DeviceLostError(`the GPU device was lost (${this.#lost})`);
      throw (await this.#hasLeftPersistent(error)) ? new PersistentStoppedError() : error;
    } finally {
      await this.#reader.drain().catch(() => undefined);
      await this.#logits?.drain().catch(() => undefined);
      this.#busy = false;
      const error = await device.popErrorScope().catch(() => null);
      if (error) {
        this.#cached = [];
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

  #checkRequest(promptIds: readonly number[], options: GenerateOptions): void {
    const { sampling, maxTokens } = options;
    if (this.#lost !== null) throw new DeviceLostError(`the GPU device was lost (${this.#lost})`);
    if (this.#busy) throw new EngineBusyError();
    const { vocabSize } = this.weights.layout.config;
    if (promptIds.length === 0) throw new InvalidRequestError('the prompt has no tokens');
    const bad = promptIds.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (bad !== undefined) {
      throw new InvalidRequestError(`prompt token ${bad} is outside the vocabulary of ${vocabSize}`);
    }
    if (!Number.isInteger(maxTokens) || maxTokens < 1) {
      throw new InvalidRequestError(`maxTokens: expected a whole number of at least 1, got ${maxTokens}`);
    }
    encodeSampling(sampling);
    checkLogitBias(options, vocabSize);
    if (promptIds.length > this.contextLength)
      throw new ContextFullError(promptIds.length, this.contextLength);
  }

  async *#reply(promptIds: readonly number[], options: GenerateOptions): TokenStream {
    const start = performance.now();
    const tail = await this.#prepareSampler(promptIds, options);
    const cachedTokens = Math.min(commonPrefix(this.#cached, promptIds), promptIds.length - 1);
    this.#cached.length = cachedTokens;
    const prefilled = await this.#prefill(promptIds, cachedTokens, tail, options.signal);
    const replyIds: number[] = [];
    let finishReason: FinishReason = 'cancelled';
    let firstMs = performance.now() - start;
    let lastMs = firstMs;
    const drafts = this.#drafts(options) ? { passes: 0, drafted: 0, accepted: 0 } : null;
    if (prefilled) {
      const tokens = drafts
        ? this.#decodeDrafted(promptIds, options, tail, drafts)
        : this.#decode(promptIds, options, tail);
      for (;;) {
        const { value, done } = await tokens.next();
        if (done) {
          finishReason = value;
          break;
        }
        await this.check?.settled();
        lastMs = performance.now() - start;
        if (replyIds.length === 0) firstMs = lastMs;
        replyIds.push(value);
        if (yield value) {
          await tokens.return('stop');
          finishReason = 'stop';
          break;
        }
      }
    }
    const newTokens = promptIds.length - cachedTokens;
    const stats = replyStats(promptIds.length, cachedTokens, newTokens, replyIds.length, firstMs, lastMs);
    const dispatchesPerToken = this.passes.decode.length + tail.length;
    const layerCheck = this.check ? { layerCheck: this.check.report } : {};
    const promptLookup = drafts ? { promptLookup: drafts } : {};
    return { finishReason, stats: { ...stats, dispatchesPerToken, ...layerCheck, ...promptLookup } };
  }

  /** Resets the sampler's state for a new reply and picks its operations. */
  async #prepareSampler(promptIds: readonly number[], options: GenerateOptions): Promise<readonly Op[]> {
    const { sampling } = options;
    const { device } = this.gpu;
    const { queue } = device;
    const { vocabSize } = this.weights.layout.config;
    const counts = new Uint32Array(vocabSize);
    for (const id of promptIds) counts[id] = 0x80000000;
    queue.writeBuffer(this.sampler.counts, 0, counts);
    queue.writeBuffer(this.sampler.sampling, 0, encodeSampling(sampling));
    if (options.onLogprobs) this.#logitsReadback ??= logitsReadback(device, vocabSize);
    this.#logits = options.onLogprobs ? this.#logitsReadback : null;
    const { head } = this.passes;
    const { greedy, sampled } = isGuided(options) ? await this.#guide(options) : this.passes;
    return [...head, ...(isPlainGreedy(sampling) ? greedy : sampled)];
  }

  /** The operations that draw from biased and masked logits, set up for a new reply. */
  async #guide(options: GenerateOptions): Promise<Guidance> {
    this.#guidance ??= await Guidance.create(
      this.context,
      drawArgs(this.weights, this.scratch, this.sampler),
    );
    this.#guidance.begin(options);
    return this.#guidance;
  }

  /** Runs the prompt through the model in chunks; the last one also draws the first token. False when cancelled. */
  async #prefill(
    promptIds: readonly number[],
    from: number,
    tail: readonly Op[],
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { queue } = this.gpu.device;
    const submitted: Promise<void>[] = [];
    let doneAt = performance.now();
    for (let position = from; position < promptIds.length; ) {
      if (signal?.aborted) return false;
      const passTokens = Math.min(this.#passTokens, this.scratch.chunkTokens);
      const ids = promptIds.slice(position, position + passTokens);
      const last = position + ids.length === promptIds.length;
      queue.writeBuffer(this.scratch.ids, 0, new Uint32Array(ids));
      queue.writeBuffer(this.scratch.step, 0, new Uint32Array([ids.length, position, 0, 0]));
      const layers = ids.length === 1 ? this.passes.decode : this.passes.prefill;
      position += ids.length;
      this.#submit([...layers, ...(last ? tail : [])], ids.length, position, last ? 0 : null);
      this.#cached.push(...ids);
      const done = queue.onSubmittedWorkDone().then(() => {
        const now = performance.now();
        if (ids.length === this.#passTokens && now - doneAt < shortPassMs) this.#passTokens *= 2;
        doneAt = now;
      });
      submitted.push(done);
      if (submitted.length >= prefillInFlight) await submitted.shift();
    }
    return true;
  }

  /** Submits one pass that ends before position `end`; `generated` is the number of the token it draws, null for none. */
  #submit(ops: readonly Op[], numTokens: number, end: number, generated: number | null): void {
    const { device } = this.gpu;
    const encoder = device.createCommandEncoder();
    if (this.check) {
      this.check.encode(encoder, ops, numTokens, end);
    } else {
      const pass = encoder.beginComputePass();
      for (const op of ops) encodeOp(pass, op, numTokens);
      pass.end();
    }
    const staging = generated === null ? null : this.#reader.encode(encoder, generated);
    const logits = generated === null ? undefined : this.#logits?.encode(encoder, this.scratch.logits);
    device.queue.submit([encoder.finish()]);
    if (staging) this.#reader.submitted(staging);
    this.check?.submitted();
    if (logits) this.#logits?.submitted(logits);
  }

  /** Whether drafts can be verified by comparing with what is drawn: where that is an argmax nobody else looks at. */
  #drafts(options: GenerateOptions): boolean {
    if (!this.drafting || this.check || this.#logits) return false;
    return isPlainGreedy(options.sampling) && !isGuided(options);
  }

  /** As {@link #decode}, with several tokens a pass where the text holds a draft of them. */
  async *#decodeDrafted(
    promptIds: readonly number[],
    { maxTokens, stopTokenIds, signal }: GenerateOptions,
    tail: readonly Op[],
    stats: DraftStats,
  ): AsyncGenerator<number, FinishReason> {
    const { queue } = this.gpu.device;
    const { verifier, most: mostDrafted } = this.drafting!;
    const most = Math.min(maxTokens, this.contextLength - promptIds.length + 1);
    const one = [...this.passes.decode, ...tail];
    const drawOne = (id: number, position: number) => {
      queue.writeBuffer(this.scratch.ids, 0, new Uint32Array([id]));
      queue.writeBuffer(this.scratch.step, 0, new Uint32Array([1, position, 0, 0]));
      this.#submit(one, 1, position + 1, 0);
      return this.#reader.next();
    };
    const reason = yield* draftedDecode({
      ...{ promptIds, first: await this.#reader.next(), most, mostDrafted, stats, signal },
      contextLength: this.contextLength,
      stopTokenIds: new Set(stopTokenIds),
      draw: async (ids, position) =>
        ids.length === 1 ? [await drawOne(ids[0]!, position)] : verifier.draw(ids, position),
      onKept: (ids) => this.#cached.push(...ids),
    });
    return reason ?? (most < maxTokens ? 'context' : 'length');
  }

  /** Keeps passes in flight and yields their tokens until something ends the reply. */
  async *#decode(
    promptIds: readonly number[],
    options: GenerateOptions,
    tail: readonly Op[],
  ): AsyncGenerator<number, FinishReason> {
    const { maxTokens, stopTokenIds, signal, constraint } = options;
    const ops = [...this.passes.decode, ...tail];
    const longOps = this.passes.longDecode ? [...this.passes.longDecode, ...tail] : ops;
    const stops = new Set(stopTokenIds);
    // A pass at position p needs p < contextLength; the last token drawn need not be fed again.
    const most = Math.min(maxTokens, this.contextLength - promptIds.length + 1);
    const start = performance.now();
    let issued = 1; // the prefill drew the first
    let depth = constraint ? 1 : 2;
    let unfed: number | null = null; // the last token, as long as no pass feeds it
    for (let received = 0; received < most; received++) {
      if (signal?.aborted) return 'cancelled';
      for (; issued < most && issued - received < depth; issued++) {
        if (constraint) this.#guidance?.writeMask(constraint);
        const length = promptIds.length + issued;
        this.#submit(length > longContextFrom ? longOps : ops, 1, length, issued);
        if (unfed !== null) this.#cached.push(unfed);
        unfed = null;
      }
      const id = await this.#reader.next();
      if (id === noToken) throw new NonFiniteLogitsError(promptIds.length + received - 1);
      if (this.#logits) await this.#tellLogprobs(this.#logits, id, options);
      if (received + 1 === issued) unfed = id;
      else this.#cached.push(id); // a pass that feeds it has been submitted
      constraint?.accept(id);
      yield id;
      if (stops.has(id) || constraint?.isComplete) return 'stop';
      if (!constraint) depth = flightDepth((performance.now() - start) / (received + 1));
    }
    return most < maxTokens ? 'context' : 'length';
  }

  async #tellLogprobs(queue: ReadbackQueue, id: number, options: GenerateOptions): Promise<void> {
    const { onLogprobs, topLogprobs = 0 } = options;
    onLogprobs?.(await queue.next((data) => drawnLogprobs(new Float32Array(data), id, topLogprobs)));
  }
}

/** What the sampler works on. */
function drawArgs(weights: ModelWeights, scratch: Scratch, sampler: SamplerBuffers) {
  const { vocabSize } = weights.layout.config;
  const { logits, ids, step, contextLength: historyCapacity } = scratch;
  return { vocabSize, logits, ids, step, historyCapacity, ...sampler };
}

/** Tries the whole-token kernel where it was asked for. */
async function tryPersistent(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  { decode }: Passes,
  { persistentDecode = false }: EngineOptions,
): Promise<PersistentState | null> {
  if (persistentDecode === false) return null;
  if (weights.checked) return { isOn: false, reason: 'the layer check looks between dispatches' };
  const tuning = persistentDecode === true ? {} : persistentDecode;
  return tryPersistentDecode({ context, weights, scratch, ordinary: decode }, tuning);
}

async function buildPasses(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  sampler: SamplerBuffers,
): Promise<Passes> {
  const draw = drawArgs(weights, scratch, sampler);
  const fuses = canFuseDecode(context.gpu, weights, scratch);
  const [prefill, decode, head, greedy, sampled] = await Promise.all([
    buildLayers(context, weights, scratch, 'matrix'),
    fuses ? buildDecodeLayers(context, weights, scratch) : buildLayers(context, weights, scratch, 'vector'),
    buildHead(context, weights, scratch),
    argmax(context, draw),
    sample(context, draw),
  ]);
  const isLong = fuses && scratch.contextLength > longContextFrom;
  const longDecode = isLong ? await buildLongDecodeLayers(context, weights, scratch, decode) : null;
  return { prefill, decode, longDecode, head, greedy, sampled };
}

/** Length of the longest common prefix. */
function commonPrefix(a: readonly number[], b: readonly number[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

function replyStats(
  promptTokens: number,
  cachedTokens: number,
  newTokens: number,
  replyTokens: number,
  firstMs: number,
  lastMs: number,
): Omit<ReplyStats, 'dispatchesPerToken'> {
  const decodeMs = lastMs - firstMs;
  return {
    promptTokens,
    cachedTokens,
    replyTokens,
    prefillMs: firstMs,
    prefillTokensPerSecond: newTokens / (firstMs / 1000),
    timeToFirstTokenMs: firstMs,
    decodeMs,
    decodeTokensPerSecond: replyTokens > 1 ? (replyTokens - 1) / (decodeMs / 1000) : 0,
  };
}

/** Greedy without penalties: an argmax suffices. */
function isPlainGreedy(sampling: SamplingOptions): boolean {
  const { temperature, repetitionPenalty, presencePenalty, frequencyPenalty } = sampling;
  return temperature === 0 && repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0;
}
