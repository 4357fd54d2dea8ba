/**
 * A debug option: holds one layer of the loaded model against the float64 reference after every pass, on the kernels that
 * generate, for the pass's last token. The weights of the reference are the artifact's, kept as they were uploaded, so that
 * a wrong weight on the GPU shows as well as a wrong kernel.
 */
import type { LlamaConfig } from '../format/config';
import { f16BitsToF32 } from '../format/half';
import { kvRowBytes } from '../format/kv-cache';
import { qkvRows } from '../format/tensors';
import { placeOf } from '../gpu/arena';
import { encodeOp, type LayerPoint, type Op } from '../kernels/op';
import { ropeTable } from '../kernels/rope-table';
import { type Bounded, LayerReference } from '../model/layer.ref';
import type { LayerTensors } from '../model/layer-tensors';
import type { Scratch } from '../model/scratch';

/** A layer's result is farther from the float64 reference than float32 arithmetic explains. */
export class LayerCheckError extends Error {
  override readonly name = 'LayerCheckError';
  constructor(
    readonly layer: number,
    /** Which part of the layer, and the element of it. */
    readonly what: string,
    /** Of the token in the context. */
    readonly position: number,
    readonly expected: number,
    readonly found: number,
    readonly allowed: number,
  ) {
    super(
      `layer ${layer} computes wrongly: ${what} of the token at position ${position}: expected ${expected} ± ${allowed.toPrecision(2)}, found ${found}`,
    );
  }
}

export interface LayerCheckReport {
  readonly layer: number;
  /** Passes whose last token was compared. */
  readonly passes: number;
  /** The error that came closest to its bound, the bound, and where it was. */
  readonly largestError: number;
  readonly allowed: number;
  readonly what: string;
}

/** What is copied out of a pass, in this order: floats of one token, then halves of the cache. */
interface Snapshot {
  readonly staging: GPUBuffer;
  /** Positions in the cache, the token's included. */
  readonly length: number;
}

export class LayerCheck {
  #report: LayerCheckReport;
  readonly #reference: LayerReference;
  #encoded: Snapshot | null = null;
  #pending: Promise<void>[] = [];

  constructor(
    readonly device: GPUDevice,
    readonly scratch: Scratch,
    tensors: LayerTensors,
  ) {
    const { layout, layer } = tensors;
    const rope = ropeTable(layout.config, scratch.contextLength);
    this.#reference = new LayerReference(layout, layer, tensors.widened(), rope);
    this.#report = { layer, passes: 0, largestError: 0, allowed: 0, what: 'nothing' };
  }

  get report(): LayerCheckReport {
    return this.#report;
  }

  /** Records a pass over `numTokens` tokens that ends at position `length`, and copies of the layer's values in it. */
  encode(encoder: GPUCommandEncoder, ops: readonly Op[], numTokens: number, length: number): void {
    const { layer, layout } = this.#reference;
    const { hiddenSize, intermediateSize, numKvHeads, headDim } = layout.config;
    const cacheBytes = 2 * numKvHeads * length * kvRowBytes(headDim, 'f16');
    const size = 4 * (3 * hiddenSize + qkvRows(layout.config) + intermediateSize) + cacheBytes;
    const staging = this.device.createBuffer({ label: 'layer check', size, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
    let at = 0;
    const copyRow = (source: GPUBuffer, count: number) => {
      encoder.copyBufferToBuffer(source, 4 * count * (numTokens - 1), staging, at, 4 * count);
      at += 4 * count;
    };
    const { x, qkv, activated } = this.scratch;
    const copies: Record<LayerPoint['stage'], () => void> = {
      qkv: () => copyRow(qkv, qkvRows(layout.config)),
      attention: () => copyRow(x, hiddenSize),
      gated: () => copyRow(activated, intermediateSize),
      output: () => copyRow(x, hiddenSize),
    };
    let pass = encoder.beginComputePass();
    for (const op of ops) {
      encodeOp(pass, op, numTokens);
      const point = op.completes;
      const isInput = point?.layer === layer - 1 && point.stage === 'output';
      if (!point || (point.layer !== layer && !isInput)) continue;
      pass.end();
      copies[point.stage]();
      pass = encoder.beginComputePass();
    }
    pass.end();
    this.#copyCache(encoder, staging, at, length);
    this.#encoded = { staging, length };
  }

  #copyCache(encoder: GPUCommandEncoder, staging: GPUBuffer, start: number, length: number): void {
    const { numKvHeads, headDim } = this.#reference.layout.config;
    const { kvCache, contextLength } = this.scratch;
    const { keys, values } = kvCache[this.#reference.layer]!;
    const rowBytes = kvRowBytes(headDim, 'f16');
    const headBytes = length * rowBytes;
    let at = start;
    for (const cache of [keys, values]) {
      for (let head = 0; head < numKvHeads; head++) {
        const { buffer, offset } = placeOf(cache);
        const from = offset + head * contextLength * rowBytes;
        encoder.copyBufferToBuffer(buffer, from, staging, at, headBytes);
        at += headBytes;
      }
    }
  }

  /** The recorded pass is on its way. */
  submitted(): void {
    const checked = this.#check(this.#encoded!);
    checked.catch(() => undefined); // heard of in `settled`
    this.#pending.push(checked);
  }

  /** Waits for every pass that was submitted. @throws LayerCheckError */
  async settled(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    await Promise.all(pending);
  }

  async #check({ staging, length }: Snapshot): Promise<void> {
    try {
      await staging.mapAsync(0x1);
      this.#compareAll(staging.getMappedRange().slice(0), length);
    } finally {
      staging.destroy();
    }
  }

  #compareAll(copied: ArrayBuffer, length: number): void {
    const { layout } = this.#reference;
    const { hiddenSize: D, intermediateSize: F, numKvHeads, headDim } = layout.config;
    let at = 0;
    const floats = (count: number) => {
      const values = Float64Array.from(new Float32Array(copied, at, count));
      at += 4 * count;
      return values;
    };
    const [x, qkv, middle, gated, output] = [
      floats(D),
      floats(qkvRows(layout.config)),
      floats(D),
      floats(F),
      floats(D),
    ];
    const cached = f16BitsToF32(new Uint16Array(copied, at));
    const stride = kvRowBytes(headDim, 'f16') / 2;
    const rows = numKvHeads * length * stride;
    const keys = cacheRows(cached.subarray(0, rows), layout.config, length);
    const values = cacheRows(cached.subarray(rows), layout.config, length);
    const position = length - 1;
    const compare = (what: string, found: Float64Array, expected: Bounded) =>
      this.#compare(what, position, found, expected);
    const stored = this.#reference.cacheRows(qkv, position);
    compare('q, k and v', qkv, this.#reference.qkv(x));
    compare('the key in the cache', keys[position]!, stored.keys);
    compare('the value in the cache', values[position]!, stored.values);
    compare('x after attention', middle, this.#reference.afterAttention(x, qkv, keys, values));
    compare('silu(gate)·up', gated, this.#reference.gated(middle));
    compare('x after the layer', output, this.#reference.afterMlp(middle, gated));
    this.#report = { ...this.#report, passes: this.#report.passes + 1 };
  }

  #compare(what: string, position: number, found: Float64Array, expected: Bounded): void {
    for (let i = 0; i < found.length; i++) {
      const allowed = expected.error[i]! + smallest;
      const error = Math.abs(found[i]! - expected.value[i]!);
      const where = `${what} [${i}]`;
      const { layer, largestError } = this.#report;
      // false for NaN, too
      if (!(error <= allowed))
        throw new LayerCheckError(layer, where, position, expected.value[i]!, found[i]!, allowed);
      if (error * this.#report.allowed >= largestError * allowed && error > 0)
        this.#report = { ...this.#report, largestError: error, allowed, what: where };
    }
  }
}

/** Numbers below float32's normal range may become 0. */
const smallest = 2 ** -126;

/** [Hkv, length, Dh and padding] as rows of positions [length][Hkv·Dh]. */
function cacheRows(
  cache: Float32Array,
  { numKvHeads, headDim }: Pick<LlamaConfig, 'numKvHeads' | 'headDim'>,
  length: number,
): Float64Array[] {
  const stride = cache.length / (numKvHeads * length);
  return Array.from({ length }, (_, t) =>
    Float64Array.from({ length: numKvHeads * headDim }, (_, i) => {
      const head = Math.floor(i / headDim);
      return cache[(head * length + t) * stride + (i % headDim)]!;
    }),
  );
}
