/** What the kernel tests share: one GPU per file, seeded inputs, sentinels around outputs, readable failures. */
import { BufferArena, storageUsage } from '../gpu/arena';
import type { Gpu, OpenGpuOptions } from '../gpu/gpu';
import type { NodeGpuOptions } from '../gpu/node';
import { PipelineCache } from '../gpu/pipelines';
import { openTestGpu } from '../gpu/testing';
import { encodeOp, type KernelContext, type Op } from './op';

export { normals, seededRandom as random } from '../format/random';

/** Bit pattern of output words before a run: a float NaN, so an unwritten or overwritten word is seen. */
const sentinel = 0x7fc0dead;
/** Words behind every output that must stay untouched. */
const guardWords = 64;

/** The capability sets every kernel is tested under. */
export const capabilitySets: readonly { name: string; options: OpenGpuOptions }[] = [
  { name: 'all the adapter has', options: { software: false } },
  {
    name: 'no optional feature',
    options: { software: false, without: ['subgroups', 'shader-f16', 'packed-dot'] },
  },
  { name: 'a software adapter', options: { software: true } },
];

/** Where the adapter has subgroup matrices: kernels on them are tested there and left out elsewhere. */
export const experimentalSet: { name: string; options: NodeGpuOptions } = {
  name: 'experimental features',
  options: { software: false, experimental: true },
};

export class KernelBench implements KernelContext {
  readonly pipelines: PipelineCache;
  readonly arena: BufferArena;

  private constructor(
    readonly gpu: Gpu,
    pipelines = PipelineCache.of(gpu),
  ) {
    this.pipelines = pipelines;
    this.arena = new BufferArena(gpu.device);
  }

  static async open(options: NodeGpuOptions = {}): Promise<KernelBench> {
    return new KernelBench(await openTestGpu(options));
  }

  /**
   * For kernels that are the same whatever the GPU can do: on a device without any optional feature, which says all of them.
   * A wrapper that asks what the GPU can do throws, and needs a test with all of {@link capabilitySets}.
   */
  static async openPlain(): Promise<KernelBench> {
    const gpu = await openTestGpu({ without: ['subgroups', 'shader-f16', 'packed-dot'] });
    const caps = new Proxy(gpu.caps, {
      get: (_, name) => {
        throw new Error(`this kernel asks for caps.${String(name)}: test it with each of capabilitySets`);
      },
    });
    return new KernelBench({ ...gpu, caps }, PipelineCache.of(gpu));
  }

  /** An input buffer. */
  input(data: ArrayBufferView<ArrayBuffer>): GPUBuffer {
    return this.arena.upload('input', data, { category: 'scratch' });
  }

  /** An output buffer of `words` 32-bit words, filled with sentinels, with a guard behind it. */
  output(words: number): GPUBuffer {
    const fill = new Uint32Array(words + guardWords).fill(sentinel);
    return this.arena.upload('output', fill, { category: 'scratch' });
  }

  /** The step uniform: `numTokens`, `position`, `generated`. Storage too, for kernels that advance it. */
  step(numTokens: number, position = 0): GPUBuffer {
    const data = new Uint32Array([numTokens, position, 0, 0]);
    return this.arena.upload('step', data, { category: 'uniforms', usage: storageUsage | 0x40 });
  }

  /** Runs the operations in order in one submit; a GPU validation error rejects. */
  async run(ops: readonly Op[], numTokens: number): Promise<void> {
    const { device } = this.gpu;
    device.pushErrorScope('validation');
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const op of ops) encodeOp(pass, op, numTokens);
    pass.end();
    device.queue.submit([encoder.finish()]);
    const error = await device.popErrorScope();
    if (error) throw new Error(`GPU validation: ${error.message}`);
  }

  /** Reads back a whole buffer. */
  async read(buffer: GPUBuffer): Promise<ArrayBuffer> {
    const { device } = this.gpu;
    const staging = device.createBuffer({ size: buffer.size, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(0x1);
    const copy = staging.getMappedRange().slice(0);
    staging.destroy();
    return copy;
  }

  /** The first `words` words of an output; throws when the words behind them were written. */
  async readOutput(buffer: GPUBuffer, words: number): Promise<Uint32Array<ArrayBuffer>> {
    const all = new Uint32Array(await this.read(buffer));
    for (let i = words; i < all.length; i++) {
      if (all[i] !== sentinel && all[i] !== 0)
        throw new Error(`word ${i} behind an output of ${words} words was written`);
    }
    return all.slice(0, words);
  }

  async readFloats(buffer: GPUBuffer, count: number): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array((await this.readOutput(buffer, count)).buffer);
  }

  async readInts(buffer: GPUBuffer, count: number): Promise<Int32Array<ArrayBuffer>> {
    return new Int32Array((await this.readOutput(buffer, count)).buffer);
  }
}

/** The same device as one whose subgroups may be smaller than they are: no wrapper may take their size for a constant. */
export function withAnySubgroup({ gpu, pipelines, arena }: KernelContext): KernelContext {
  return { gpu: { ...gpu, caps: { ...gpu.caps, subgroupMinSize: 2 } }, pipelines, arena };
}

/** Throws, showing the worst element, unless every actual value is finite and within its tolerance of the reference. */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: (expected: number, index: number) => number,
): void {
  if (actual.length !== expected.length)
    throw new Error(`length ${actual.length}, expected ${expected.length}`);
  let worst = -1;
  let worstRatio = 1;
  for (let i = 0; i < actual.length; i++) {
    const value = actual[i]!;
    if (!Number.isFinite(value)) throw new Error(`element ${i} is ${value}, expected ${expected[i]}`);
    const ratio = Math.abs(value - expected[i]!) / tolerance(expected[i]!, i);
    if (!(ratio <= worstRatio)) {
      worst = i;
      worstRatio = ratio;
    }
  }
  if (worst < 0) return;
  const allowed = tolerance(expected[worst]!, worst);
  throw new Error(
    `element ${worst}: actual ${actual[worst]}, expected ${expected[worst]}, allowed ±${allowed}`,
  );
}

/** Throws, showing the first difference and how many there are, unless the integers are equal. */
export function expectEqualInts(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  if (actual.length !== expected.length)
    throw new Error(`length ${actual.length}, expected ${expected.length}`);
  let first = -1;
  let count = 0;
  for (let i = 0; i < actual.length; i++) {
    if (actual[i] === expected[i]) continue;
    if (first < 0) first = i;
    count++;
  }
  if (count > 0) {
    throw new Error(
      `${count} of ${actual.length} differ; element ${first}: actual ${actual[first]}, expected ${expected[first]}`,
    );
  }
}
