/**
 * Workgroup shapes of decode's products, timed on the loaded weights: which are fast differs between GPUs, the results never do.
 * What was found is kept where the host says, so that a model of the same shapes is tuned once per device and build.
 */
import { BufferArena } from '../gpu/arena';
import { type DecodeLinearTuning, decodeLinearBuild } from '../kernels/decode-linear';
import { encodeOp, type KernelContext, type Op } from '../kernels/op';
import {
  buildDecodeLayers,
  type DecodeTuning,
  type LayerProduct,
  layerProductNames,
} from '../model/forward-decode';
import type { Scratch } from '../model/scratch';
import type { ModelWeights } from '../model/weights';

/** Where tunings are kept between loads, as short texts. Failures are not the engine's: they cost the next load its tuning. */
export interface TuningStore {
  get(key: string): Promise<string | undefined>;
  set(key: string, value: string): Promise<void>;
}

/** What decode's products run with, and where that comes from. */
export interface TunedDecode {
  readonly tuning: DecodeTuning;
  readonly source: 'measured' | 'kept';
  /** That finding it took. */
  readonly ms: number;
}

interface Model {
  readonly context: KernelContext;
  readonly weights: ModelWeights;
  readonly scratch: Scratch;
}

/** Shapes to try for each product beside its default, the more promising first. */
const candidates: readonly DecodeLinearTuning[] = [
  { threads: 1024, groups: 132, pieces: 2 },
  { threads: 512, groups: 264, pieces: 2 },
  { threads: 768, groups: 132, pieces: 2 },
  { threads: 512, groups: 132, pieces: 2 },
  { threads: 256, groups: 264, pieces: 4 },
  { threads: 256, groups: 64, pieces: 4 },
];
/** Timing, without compilation, ends with the candidate that exceeds this. */
const budgetMs = 300;
/** Layers are timed as far as their weights exceed every cache. */
const uncachedBytes = 256 * 2 ** 20;
/** Of one sample: long against a submit and its answer. */
const sampleMs = 3;
const samples = 3;
/** A candidate must be this much faster than what is there: less is noise. */
const worthwhile = 0.99;

/**
 * The fastest shapes found, or kept from an earlier load. Candidates that do not compile or leave other bits are passed over.
 * Leaves nonsense in the KV cache, at one position. @throws what building the default operations throws
 */
export async function tuneDecode(model: Model, store: TuningStore | null): Promise<TunedDecode> {
  const start = performance.now();
  const key = tuningKey(model);
  const kept = parseTuning(await store?.get(key).catch(() => undefined));
  if (kept) return { tuning: kept, source: 'kept', ms: performance.now() - start };
  const arena = new BufferArena(model.context.gpu.device);
  try {
    const tuning = await new Search({ ...model, context: { ...model.context, arena } }).run();
    await store?.set(key, JSON.stringify(tuning)).catch(() => undefined);
    return { tuning, source: 'measured', ms: performance.now() - start };
  } finally {
    arena.destroy();
  }
}

/** Device, shapes and build: all that what is fastest depends on. */
function tuningKey({ context, weights }: Model): string {
  const { adapter, device: opened } = context.gpu;
  const { vendor, architecture, device, description } = adapter;
  const { config, scheme, quant } = weights.layout;
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = config;
  const { qkv, gateUp } = weights.layers[0]!;
  const shape = [hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, qkv.inputs, gateUp.inputs];
  const { maxComputeInvocationsPerWorkgroup: most, maxComputeWorkgroupStorageSize: storage } = opened.limits;
  const parts = [vendor, architecture, device, description, most, storage, scheme, quant?.actBits, ...shape];
  return [...parts, decodeLinearBuild].join('|');
}

/** Null for anything that {@link tuneDecode} did not write. */
export function parseTuning(text: string | undefined): DecodeTuning | null {
  try {
    const value = JSON.parse(text ?? 'null') as Record<string, DecodeLinearTuning> | null;
    if (typeof value !== 'object' || value === null) return null;
    const tuning: Partial<Record<LayerProduct, DecodeLinearTuning>> = {};
    for (const name of layerProductNames) {
      const found = value[name];
      if (found === undefined) continue;
      const { threads, groups, pieces } = found;
      if (![threads, groups, pieces].every((count) => Number.isInteger(count) && count! > 0)) return null;
      tuning[name] = { threads, groups, pieces };
    }
    return tuning;
  } catch {
    return null;
  }
}

/** One search over the candidates of each product in turn. */
class Search {
  readonly #view: ModelWeights;
  #tuning: DecodeTuning = {};
  #repeats = 1;

  constructor(private readonly model: Model) {
    const { layers } = model.weights;
    const bytes = (model.weights.arena.bytesByCategory.weights ?? 0) / layers.length;
    const count = Math.min(layers.length, Math.ceil(uncachedBytes / Math.max(1, bytes)));
    this.#view = { ...model.weights, layers: layers.slice(0, count) };
  }

  async run(): Promise<DecodeTuning> {
    let current = await this.#build(this.#tuning);
    // Compiles them all at once; those that fail fail again when their turn comes.
    await Promise.allSettled(
      candidates.map((each) => this.#build({ qkv: each, o: each, gateUp: each, down: each })),
    );
    const start = performance.now();
    const expected = await this.#residual(current);
    let best = await this.#calibrate(current);
    // The products with the most bytes first: time may be short.
    for (const name of ['gateUp', 'down', 'qkv', 'o'] as const) {
      for (const candidate of candidates) {
        if (performance.now() - start > budgetMs) return this.#tuning;
        const tuning = { ...this.#tuning, [name]: candidate };
        const ops = await this.#build(tuning).catch(() => null); // not on this device
        if (!ops || !sameWords(await this.#residual(ops), expected)) continue;
        best = Math.min(best, await this.#time(current)); // clocks may have risen since it was timed
        const ms = await this.#time(ops);
        if (ms >= worthwhile * best) continue;
        [best, current, this.#tuning] = [ms, ops, tuning];
      }
    }
    return this.#tuning;
  }

  #build(tuning: DecodeTuning): Promise<Op[]> {
    return buildDecodeLayers(this.model.context, this.#view, this.model.scratch, tuning);
  }

  /** Finds how often the layers are repeated in a sample, which also raises the GPU's clock. */
  async #calibrate(ops: readonly Op[]): Promise<number> {
    for (;;) {
      const ms = await this.#sample(ops);
      if (ms >= sampleMs || this.#repeats >= 256) return ms / this.#repeats;
      this.#repeats *= 2;
    }
  }

  /** Milliseconds of the layers: the least of a few samples, since nothing makes them faster than they are. */
  async #time(ops: readonly Op[]): Promise<number> {
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < samples; i++) least = Math.min(least, await this.#sample(ops));
    return least / this.#repeats;
  }

  async #sample(ops: readonly Op[]): Promise<number> {
    const { queue } = this.model.context.gpu.device;
    const start = performance.now();
    this.#submit(ops, this.#repeats);
    await queue.onSubmittedWorkDone();
    return performance.now() - start;
  }

  #submit(ops: readonly Op[], times: number, copyTo?: GPUBuffer): void {
    const { device } = this.model.context.gpu;
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let i = 0; i < times; i++) for (const op of ops) encodeOp(pass, op, 1);
    pass.end();
    if (copyTo) encoder.copyBufferToBuffer(this.model.scratch.x, 0, copyTo, 0, copyTo.size);
    device.queue.submit([encoder.finish()]);
  }

  /** The residual stream that the operations leave at one position in the middle of attention's pieces. */
  async #residual(ops: readonly Op[]): Promise<Uint32Array> {
    const { context, scratch, weights } = this.model;
    const { device } = context.gpu;
    const position = Math.min(300, scratch.contextLength - 1);
    device.queue.writeBuffer(scratch.ids, 0, new Uint32Array([1]));
    device.queue.writeBuffer(scratch.step, 0, new Uint32Array([1, position, 0, 0]));
    const size = 4 * weights.layout.config.hiddenSize;
    const staging = device.createBuffer({ label: 'tuned', size, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    try {
      this.#submit(ops, 1, staging);
      await staging.mapAsync(0x1);
      return new Uint32Array(staging.getMappedRange().slice(0));
    } finally {
      staging.destroy();
    }
  }
}

function sameWords(a: Uint32Array, b: Uint32Array): boolean {
  return a.every((word, i) => word === b[i]);
}
