/** What every suite works with: the GPU, how much to measure, and a place for figures. */
import { BufferArena, storageUsage } from '../src/gpu/arena';
import type { Gpu } from '../src/gpu/gpu';
import { PipelineCache } from '../src/gpu/pipelines';
import { fillRandom, type RandomContent } from '../src/kernels/fill-random';
import { encodeOp, type KernelContext, type Op } from '../src/kernels/op';
import type { BenchRequest, Figure, SuiteName, Timeline, Unit } from './figures';
import { exactly, type Summary, summarize } from './statistics';
import type { Encode, Timed, TimingOptions } from './timing';

/** Tells a listener what is being measured, and of every new figure. */
export interface BenchListener {
  readonly onStep?: (text: string) => void;
  readonly onFigure?: (figure: Figure) => void;
}

export class BenchContext {
  readonly figures: Figure[] = [];
  readonly timelines: Timeline[] = [];
  readonly notes: string[] = [];
  readonly #clockShares: number[] = [];

  constructor(
    readonly gpu: Gpu,
    readonly suite: SuiteName,
    readonly request: BenchRequest,
    readonly listener: BenchListener,
    readonly signal: AbortSignal | undefined,
  ) {}

  /** @throws the signal's reason */
  step(text: string): void {
    this.signal?.throwIfAborted();
    this.listener.onStep?.(`${this.suite}: ${text}`);
  }

  add(id: string, unit: Unit, value: Summary, clock: Figure['clock']): void {
    const better =
      unit === 'us' || unit === 'ms' || unit === 'dispatches' || unit === 'submits' || unit === 'bytes'
        ? 'lower'
        : 'higher';
    const figure: Figure = { id: `${this.suite}/${id}`, unit, better, value, clock };
    this.figures.push(figure);
    this.listener.onFigure?.(figure);
  }

  /** A time in microseconds. */
  addTime(id: string, timed: Timed): void {
    this.add(id, 'us', timed.us, timed.clock);
  }

  addCount(id: string, unit: Unit, value: number): void {
    this.add(id, unit, exactly(value), 'count');
  }

  note(text: string): void {
    this.notes.push(text);
  }

  get timing(): TimingOptions {
    const onClock = (share: number) => this.#clockShares.push(share);
    return { samples: this.request.samples, signal: this.signal, onClock };
  }

  /** Notes the GPU's clock during this suite's samples, where it was watched. */
  noteClock(): void {
    if (this.#clockShares.length === 0) return;
    const { median, least } = summarize(this.#clockShares);
    const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
    this.note(
      `GPU clock during ${this.#clockShares.length} samples, of the highest seen: median ${percent(median)}, least ${percent(least)}`,
    );
  }
}

/** Buffers and kernels of one measurement; freed together. */
export class Workbench implements KernelContext {
  readonly pipelines: PipelineCache;
  readonly arena: BufferArena;

  constructor(readonly gpu: Gpu) {
    this.pipelines = PipelineCache.of(gpu);
    this.arena = new BufferArena(gpu.device);
  }

  /** Frees everything `work` allocated once it has ended. */
  static async use<T>(gpu: Gpu, work: (workbench: Workbench) => Promise<T>): Promise<T> {
    const workbench = new Workbench(gpu);
    try {
      return await work(workbench);
    } finally {
      workbench.arena.destroy();
    }
  }

  buffer(label: string, bytes: number): GPUBuffer {
    return this.arena.create(label, bytes, { category: 'scratch' });
  }

  upload(label: string, data: ArrayBufferView<ArrayBuffer>): GPUBuffer {
    return this.arena.upload(label, data, { category: 'scratch' });
  }

  /** The step uniform of a pass over `numTokens` tokens from `position`. */
  step(numTokens: number, position = 0): GPUBuffer {
    const data = new Uint32Array([numTokens, position, 0, 0]);
    return this.arena.upload('step', data, { category: 'uniforms', usage: storageUsage | 0x40 });
  }

  /** A buffer of random contents, made on the GPU. */
  async random(label: string, bytes: number, content: RandomContent, seed: number): Promise<GPUBuffer> {
    const buffer = this.buffer(label, bytes);
    this.submit(encodeOps([await fillRandom(this, { buffer, seed, content })], 1));
    return buffer;
  }

  /** Records and submits one pass. */
  submit(encode: Encode): void {
    const encoder = this.gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encode(pass);
    pass.end();
    this.gpu.device.queue.submit([encoder.finish()]);
  }

  /** Bytes `begin` to `begin + bytes` of a buffer. */
  async read(buffer: GPUBuffer, begin: number, bytes: number): Promise<ArrayBuffer> {
    const { device } = this.gpu;
    const staging = device.createBuffer({ size: bytes, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, begin, staging, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(0x1);
    const copy = staging.getMappedRange().slice(0);
    staging.destroy();
    return copy;
  }
}

/** Records operations over `numTokens` tokens. */
export function encodeOps(ops: readonly Op[], numTokens: number): Encode {
  return (pass) => {
    for (const op of ops) encodeOp(pass, op, numTokens);
  };
}
