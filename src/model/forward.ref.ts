/** A Llama in float64 on plain arrays, for every scheme: what the GPU's whole pass is tested against. */
import type { KvCacheKind } from '../format/kv-cache';
import { qMax, schemeModes } from '../format/scheme';
import { type ModelLayout, qkvRows } from '../format/tensors';
import { keptRowRef } from '../kernels/kv-row.ref';
import { ropeTable } from '../kernels/rope-table';
import { walshHadamardRef } from '../kernels/silu-hadamard.ref';
import { refWeight } from './weight.ref';

/** Tensors of a model by name, whole (no row blocks); float16 already widened to float32. */
export type RefTensors = ReadonlyMap<string, Float32Array | Uint32Array | Int32Array>;

type Vector = Float64Array;

/** An activation ready for a product: floats, or integers with the scale they share. */
interface Operand {
  readonly values: ArrayLike<number>;
  readonly scale: number;
}

/** Rounds half to even, as WGSL does. */
export function roundEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Logits [V] after every position of `ids`, in float64, with keys and values rounded as the cache's kind rounds them. Behind a
 * float prefix tokens see its stored keys and values; the prefix's own logits are the quantized model's.
 */
export function forwardRef(
  layout: ModelLayout,
  tensors: RefTensors,
  ids: readonly number[],
  kvCache: KvCacheKind = 'f16',
): Vector[] {
  const model = new ReferenceModel(layout, tensors, ids.length, kvCache);
  const prefix = layout.quant?.prefix?.ids ?? [];
  const isPrefixed =
    prefix.length > 0 && ids.length > prefix.length && prefix.every((id, t) => id === ids[t]);
  return ids.map((id, position) => {
    if (isPrefixed && position === prefix.length) model.usePrefix(position);
    return model.token(id, position);
  });
}

class ReferenceModel {
  readonly #keys: Vector[][];
  readonly #values: Vector[][];
  readonly #rope: Float32Array;

  constructor(
    readonly layout: ModelLayout,
    readonly tensors: RefTensors,
    length: number,
    readonly kvCache: KvCacheKind,
  ) {
    this.#keys = Array.from({ length: layout.config.numLayers }, () => []);
    this.#values = Array.from({ length: layout.config.numLayers }, () => []);
    this.#rope = ropeTable(layout.config, length);
  }

  token(id: number, position: number): Vector {
    const { config, quant } = this.layout;
    const D = config.hiddenSize;
    let x = Float64Array.from(this.#get('embed.weight').subarray(id * D, (id + 1) * D));
    for (let layer = 0; layer < config.numLayers; layer++) {
      const at = `layers.${layer}.`;
      const spec = quant?.layers[layer];
      const qkv = this.#linear(`${at}qkv`, this.#norm(`${at}attn_norm`, x, spec?.attnAct ?? 1));
      const attended = this.#attention(layer, position, qkv);
      x = add(x, this.#linear(`${at}o`, this.#projectionInput(attended, spec?.oAct ?? 1)));
      const gateUp = this.#linear(`${at}gate_up`, this.#norm(`${at}mlp_norm`, x, spec?.mlpAct ?? 1));
      const gated = Float64Array.from({ length: config.intermediateSize }, (_, f) => {
        const gate = gateUp[2 * f]!;
        return (gate / (1 + Math.exp(-gate))) * gateUp[2 * f + 1]!;
      });
      const block = quant?.hadamard?.downBlock;
      const activated = block ? walshHadamardRef(gated, block) : gated;
      x = add(x, this.#linear(`${at}down`, this.#projectionInput(activated, spec?.downAct ?? 1)));
    }
    const last = this.#rms(x).map((value, k) => value * this.#get('final_norm.weight')[k]!);
    return this.#linear(config.tieWordEmbeddings ? 'embed' : 'head', { values: last, scale: 1 });
  }

  /** Replaces the keys and values of the first positions by the stored ones. */
  usePrefix(positions: number): void {
    const { numLayers, numKvHeads, headDim } = this.layout.config;
    const width = numKvHeads * headDim;
    for (let layer = 0; layer < numLayers; layer++) {
      const rows = Float64Array.from(this.#get(`layers.${layer}.prefix`));
      for (let t = 0; t < positions; t++) {
        const at = 2 * t * width;
        this.#keys[layer]![t] = this.#kept(this.#rotate(rows.slice(at, at + width), t));
        this.#values[layer]![t] = this.#kept(rows.slice(at + width, at + 2 * width));
      }
    }
  }

  #get(name: string): Float32Array | Uint32Array | Int32Array {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new Error(`reference model: no tensor ${name}`);
    return tensor;
  }

  #rms(x: Vector): Vector {
    const mean = x.reduce((sum, value) => sum + value * value, 0) / x.length;
    return x.map((value) => value / Math.sqrt(mean + this.layout.config.rmsNormEps));
  }

  #norm(name: string, x: Vector, ratio: number): Operand {
    const normed = this.#rms(x);
    const mode = schemeModes[this.layout.scheme].norm;
    if (mode === 'static') {
      const gather = this.#get(`${name}.gather`);
      const mult = this.#get(`${name}.mult`);
      const offset = this.tensors.get(`${name}.offset`);
      const values = Array.from(gather, (source, k) =>
        this.#clamp(roundEven(normed[source]! * mult[k]!) + (offset?.[k] ?? 0)),
      );
      return { values, scale: 1 };
    }
    const weight = this.#get(`${name}.weight`);
    const y = normed.map((value, k) => value * weight[k]!);
    return mode === 'float' ? { values: y, scale: 1 } : this.#dynamic(y, ratio);
  }

  #projectionInput(x: Vector, act: number): Operand {
    const mode = schemeModes[this.layout.scheme].projection;
    if (mode === 'float') return { values: x, scale: 1 };
    if (mode === 'dynamic') return this.#dynamic(x, act);
    return { values: Array.from(x, (value) => this.#clamp(roundEven(value / act))), scale: 1 };
  }

  #dynamic(x: Vector, ratio: number): Operand {
    const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const scale = (ratio * largest) / qMax(this.layout.quant!.actBits);
    const values = Array.from(x, (value) => (scale === 0 ? 0 : this.#clamp(roundEven(value / scale))));
    return { values, scale };
  }

  #clamp(value: number): number {
    const most = qMax(this.layout.quant!.actBits);
    return Math.max(-most - 1, Math.min(most, value));
  }

  #linear(name: string, input: Operand): Vector {
    const bias = this.tensors.get(`${name}.bias`);
    const { rows, element, scale } = refWeight(this.layout, this.tensors, name, input.values.length);
    return Float64Array.from({ length: rows }, (_, n) => {
      let sum = 0;
      for (let k = 0; k < input.values.length; k++) sum += element(n, k) * input.values[k]!;
      return sum * scale(n) * input.scale + (bias?.[n] ?? 0);
    });
  }

  #attention(layer: number, position: number, qkv: Vector): Vector {
    const { numHeads: H, numKvHeads, headDim: Dh } = this.layout.config;
    if (qkv.length !== qkvRows(this.layout.config)) throw new Error(`qkv has ${qkv.length} rows`);
    const keys = this.#keys[layer]!;
    const values = this.#values[layer]!;
    keys.push(this.#kept(this.#rotate(qkv.slice(H * Dh, (H + numKvHeads) * Dh), position)));
    values.push(this.#kept(qkv.slice((H + numKvHeads) * Dh)));
    const q = this.#rotate(qkv.slice(0, H * Dh), position);
    const out = new Float64Array(H * Dh);
    for (let h = 0; h < H; h++) {
      const kv = Math.floor(h / (H / numKvHeads)) * Dh;
      const scores = keys.map((key) => dot(q, h * Dh, key, kv, Dh) / Math.sqrt(Dh));
      const largest = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - largest));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      for (let d = 0; d < Dh; d++) {
        out[h * Dh + d] = weights.reduce((sum, weight, t) => sum + weight * values[t]![kv + d]!, 0) / total;
      }
    }
    return out;
  }

  /** All heads of a position as the cache keeps them. */
  #kept(heads: Vector): Vector {
    const { headDim } = this.layout.config;
    const kept = heads.slice();
    for (let at = 0; at < heads.length; at += headDim) {
      kept.set(keptRowRef(heads.slice(at, at + headDim), this.kvCache), at);
    }
    return kept;
  }

  /** RoPE in Hugging Face's layout: element i turns with element i + Dh/2. */
  #rotate(x: Vector, position: number): Vector {
    const { headDim } = this.layout.config;
    const half = headDim / 2;
    const y = x.slice();
    for (let head = 0; head < x.length; head += headDim) {
      for (let i = 0; i < half; i++) {
        const [a, b] = [x[head + i]!, x[head + half + i]!];
        const cos = this.#rope[2 * (position * half + i)]!;
        const sin = this.#rope[2 * (position * half + i) + 1]!;
        y[head + i] = a * cos - b * sin;
        y[head + half + i] = b * cos + a * sin;
      }
    }
    return y;
  }
}

function dot(a: Vector, aStart: number, b: Vector, bStart: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += a[aStart + i]! * b[bStart + i]!;
  return sum;
}

function add(a: Vector, b: Vector): Float64Array<ArrayBuffer> {
  return Float64Array.from(a, (value, i) => value + b[i]!);
}
