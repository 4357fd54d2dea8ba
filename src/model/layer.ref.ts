/**
 * One layer for one token in float64, with a bound of what float32 arithmetic may differ by: what a loaded model's layer is
 * held against while it runs. A bound is carried beside every value (running error analysis: Higham, Accuracy and Stability
 * of Numerical Algorithms, 2002, 3.3). Sums of n terms are taken to be off by (8·√n + 8)·u of the sum of magnitudes, whatever
 * their order: the probabilistic bound of Higham and Mary (2019) with λ = 8, which fails once in 10^13 sums. Where the bound
 * reaches across a rounding to an integer, both integers are allowed.
 */
import { qMax, schemeModes } from '../format/scheme';
import type { ModelLayout } from '../format/tensors';
import { walshHadamardRef } from '../kernels/silu-hadamard.ref';
import { type RefTensors, roundEven } from './forward.ref';
import { refWeight } from './weight.ref';

/** Values and, element by element, how far float32 results may be from them. */
export interface Bounded {
  readonly value: Float64Array;
  readonly error: Float64Array;
}

/** A linear's input: activation integers (or floats), their bounds, and the scale they share. */
interface Operand extends Bounded {
  readonly scale: number;
  /** Relative error of `scale`. */
  readonly scaleError: number;
  readonly integers: boolean;
}

/** Unit roundoff of float32. */
const u = 2 ** -24;
/** A few roundings, divisions of 2.5 ulp and square roots of 2 ulp (WGSL's accuracy) in a row. */
const few = 16 * u;
/** Relative rounding of a stored float16 (either neighbour), and of its subnormals. */
const half = { relative: 2 ** -10, absolute: 2 ** -24 };

const sumError = (terms: number) => (8 * Math.sqrt(terms) + 8) * u;

/** Takes values at face value. */
const exact = (value: Float64Array): Bounded => ({ value, error: new Float64Array(value.length) });

export class LayerReference {
  /** @param tensors those of the layer, by their whole names; @param rope as in `ropeTable` */
  constructor(
    readonly layout: ModelLayout,
    readonly layer: number,
    readonly tensors: RefTensors,
    readonly rope: Float32Array,
  ) {}

  /** The q,k,v rows [(H + 2·Hkv)·Dh] of the residual stream x [D]. */
  qkv(x: Float64Array): Bounded {
    return this.#linear('qkv', this.#norm('attn_norm', x, this.#spec?.attnAct ?? 1));
  }

  /** Keys and values [Hkv·Dh] that position `position` adds to the cache, as float16. */
  cacheRows(qkv: Float64Array, position: number): { readonly keys: Bounded; readonly values: Bounded } {
    const { numHeads, numKvHeads, headDim } = this.layout.config;
    const from = numHeads * headDim;
    const to = from + numKvHeads * headDim;
    const stored = ({ value, error }: Bounded): Bounded => ({
      value,
      error: error.map((e, i) => e + Math.abs(value[i]!) * half.relative + half.absolute),
    });
    return {
      keys: stored(this.#rotate(qkv.slice(from, to), position)),
      values: stored(exact(qkv.slice(to))),
    };
  }

  /** x + o_proj(attention): `keys` and `values` hold a row [Hkv·Dh] for each of the positions up to the token's. */
  afterAttention(
    x: Float64Array,
    qkv: Float64Array,
    keys: readonly Float64Array[],
    values: readonly Float64Array[],
  ): Bounded {
    const attended = this.#attention(qkv, keys, values);
    return plus(x, this.#linear('o', this.#projectionInput(attended, this.#spec?.oAct ?? 1)));
  }

  /** silu(gate)·up [F] of x [D], rotated where the model rotates it. */
  gated(x: Float64Array): Bounded {
    const rows = this.#linear('gate_up', this.#norm('mlp_norm', x, this.#spec?.mlpAct ?? 1));
    const length = this.layout.config.intermediateSize;
    const [value, error] = [new Float64Array(length), new Float64Array(length)];
    for (let f = 0; f < length; f++) {
      const [g, up] = [rows.value[2 * f]!, rows.value[2 * f + 1]!];
      const silu = g / (1 + Math.exp(-g));
      value[f] = silu * up;
      // |silu'| <= 1.1; exp is off by 3 + 2|g| ulp
      const fromInputs = 1.1 * rows.error[2 * f]! * Math.abs(up) + Math.abs(silu) * rows.error[2 * f + 1]!;
      error[f] = fromInputs + Math.abs(value[f]!) * (few + 4 * Math.abs(g) * u);
    }
    const block = this.layout.quant?.hadamard?.downBlock;
    return block ? hadamard({ value, error }, block) : { value, error };
  }

  /** x + down_proj(activated). */
  afterMlp(x: Float64Array, activated: Float64Array): Bounded {
    const input = this.#projectionInput(exact(activated), this.#spec?.downAct ?? 1);
    return plus(x, this.#linear('down', input));
  }

  get #spec() {
    return this.layout.quant?.layers[this.layer];
  }

  #get(name: string): Float32Array | Uint32Array | Int32Array {
    const tensor = this.#find(name);
    if (!tensor) throw new Error(`layer reference: no tensor layers.${this.layer}.${name}`);
    return tensor;
  }

  #find(name: string) {
    return this.tensors.get(`layers.${this.layer}.${name}`);
  }

  #norm(name: string, x: Float64Array, ratio: number): Operand {
    const mean = x.reduce((sum, value) => sum + value * value, 0) / x.length;
    const r = 1 / Math.sqrt(mean + this.layout.config.rmsNormEps);
    const relative = sumError(x.length) / 2 + few;
    const mode = schemeModes[this.layout.scheme].norm;
    if (mode === 'static') {
      const gather = this.#get(`${name}.gather`);
      const mult = this.#get(`${name}.mult`);
      const value = Float64Array.from(gather, (source, k) => x[source]! * mult[k]! * r);
      const error = value.map((v) => Math.abs(v) * relative);
      return this.#integers({ value, error }, 1, 0, this.#find(`${name}.offset`));
    }
    const weight = this.#get(`${name}.weight`);
    const value = x.map((v, k) => v * r * weight[k]!);
    const y = { value, error: value.map((v) => Math.abs(v) * relative) };
    return mode === 'float' ? floats(y) : this.#dynamic(y, ratio);
  }

  #projectionInput(x: Bounded, act: number): Operand {
    const mode = schemeModes[this.layout.scheme].projection;
    if (mode === 'float') return floats(x);
    if (mode === 'dynamic') return this.#dynamic(x, act);
    return this.#integers(scaled(x, act, few), act, few);
  }

  #dynamic(x: Bounded, ratio: number): Operand {
    const largest = x.value.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const scale = (ratio * largest) / qMax(this.layout.quant!.actBits);
    if (scale === 0) return this.#integers(x, 0, 0);
    const relative = x.error.reduce((most, error) => Math.max(most, error), 0) / largest + few;
    return this.#integers(scaled(x, scale, relative), scale, relative);
  }

  /** Rounds; an element that may round either way has the step between as its bound. */
  #integers(x: Bounded, scale: number, scaleError: number, offset?: ArrayLike<number>): Operand {
    const most = qMax(this.layout.quant!.actBits);
    const integer = (value: number, k: number) =>
      Math.max(-most - 1, Math.min(most, roundEven(value) + (offset?.[k] ?? 0)));
    const value = x.value.map(integer);
    const error = x.value.map((v, k) => {
      const [low, high] = [integer(v - x.error[k]!, k), integer(v + x.error[k]!, k)];
      return Math.max(high - value[k]!, value[k]! - low);
    });
    return { value, error, scale, scaleError, integers: true };
  }

  #linear(name: string, input: Operand): Bounded {
    const bias = this.#find(`${name}.bias`);
    const inputs = input.value.length;
    const { rows, element, ...weight } = refWeight(
      this.layout,
      this.tensors,
      `layers.${this.layer}.${name}`,
      inputs,
    );
    // integer products are exact, and their sum over groups with own scales is one of floats
    const floatTerms = input.integers ? weight.groups : inputs;
    const productError = floatTerms === 0 ? 0 : sumError(floatTerms);
    const [value, error] = [new Float64Array(rows), new Float64Array(rows)];
    for (let n = 0; n < rows; n++) {
      let [sum, magnitude, uncertain] = [0, 0, 0];
      for (let k = 0; k < input.value.length; k++) {
        const w = element(n, k);
        const term = w * input.value[k]!;
        sum += term;
        magnitude += Math.abs(term);
        uncertain += Math.abs(w) * input.error[k]!;
      }
      const scale = weight.scale(n) * input.scale;
      const product = sum * scale;
      value[n] = product + (bias?.[n] ?? 0);
      const relative = (magnitude * productError + uncertain) * Math.abs(scale) * (1 + input.scaleError);
      error[n] = relative + Math.abs(product) * (input.scaleError + few) + Math.abs(value[n]!) * u;
    }
    return { value, error };
  }

  #attention(qkv: Float64Array, keys: readonly Float64Array[], values: readonly Float64Array[]): Bounded {
    const { numHeads: H, numKvHeads, headDim: Dh } = this.layout.config;
    const q = this.#rotate(qkv.slice(0, H * Dh), keys.length - 1);
    const [value, error] = [new Float64Array(H * Dh), new Float64Array(H * Dh)];
    for (let h = 0; h < H; h++) {
      const kv = Math.floor(h / (H / numKvHeads)) * Dh;
      const head = { value: q.value.subarray(h * Dh, (h + 1) * Dh), error: q.error.subarray(h * Dh) };
      const { weights, relative } = softmax(keys.map((key) => score(head, key.subarray(kv, kv + Dh))));
      for (let d = 0; d < Dh; d++) {
        const terms = weights.map((weight, t) => weight * values[t]![kv + d]!);
        value[h * Dh + d] = terms.reduce((sum, term) => sum + term, 0);
        error[h * Dh + d] = terms.reduce((sum, term, t) => sum + Math.abs(term) * relative[t]!, 0);
      }
    }
    return { value, error };
  }

  /** RoPE in Hugging Face's layout: element i turns with element i + Dh/2. */
  #rotate(x: Float64Array, position: number): Bounded {
    const Dh = this.layout.config.headDim;
    const pair = Dh / 2;
    const [value, error] = [new Float64Array(x.length), new Float64Array(x.length)];
    for (let at = 0; at < x.length; at++) {
      const i = at % pair;
      const isLow = at % Dh < pair;
      const cos = this.rope[2 * (position * pair + i)]!;
      const sin = this.rope[2 * (position * pair + i) + 1]! * (isLow ? -1 : 1);
      const partner = x[isLow ? at + pair : at - pair]!;
      value[at] = x[at]! * cos + partner * sin;
      error[at] = 4 * u * (Math.abs(x[at]! * cos) + Math.abs(partner * sin));
    }
    return { value, error };
  }
}

/** q·k/√Dh with its bound. */
function score(q: Bounded, key: Float64Array): { readonly value: number; readonly error: number } {
  const root = Math.sqrt(key.length);
  let [sum, magnitude, uncertain] = [0, 0, 0];
  for (let d = 0; d < key.length; d++) {
    sum += q.value[d]! * key[d]!;
    magnitude += Math.abs(q.value[d]! * key[d]!);
    uncertain += q.error[d]! * Math.abs(key[d]!);
  }
  const error = (uncertain + magnitude * sumError(key.length)) / root + (Math.abs(sum) / root) * few;
  return { value: sum / root, error };
}

/** The weights of scores, and how far each may be off, relatively: through the scores, exp (3 + 2|s| ulp) and the sums. */
function softmax(scores: readonly { readonly value: number; readonly error: number }[]) {
  const largest = Math.max(...scores.map(({ value }) => value));
  const spread = 2 * Math.max(...scores.map(({ error }) => error));
  const raw = scores.map(({ value }) => Math.exp(value - largest));
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  const weights = raw.map((weight) => weight / total);
  const own = scores.map(({ value }) => Math.expm1(spread) + few + 6 * (largest - value) * u);
  const ofTotal = own.reduce((sum, error, t) => sum + error * weights[t]!, 0) + 2 * sumError(scores.length);
  return { weights, relative: own.map((error) => error + ofTotal) };
}

function floats({ value, error }: Bounded): Operand {
  return { value, error, scale: 1, scaleError: 0, integers: false };
}

/** x divided by a scale that is off by `relative` itself. */
function scaled({ value, error }: Bounded, scale: number, relative: number): Bounded {
  const divided = value.map((v) => v / scale);
  return { value: divided, error: divided.map((v, k) => error[k]! / scale + Math.abs(v) * (relative + few)) };
}

/** The Walsh–Hadamard transform adds and subtracts all elements of a block: so do their bounds. */
function hadamard({ value, error }: Bounded, block: number): Bounded {
  const bounds = value.map((v, i) => error[i]! + Math.abs(v) * (Math.log2(block) + 4) * u);
  const summed = bounds.map((_, i) => {
    const start = i - (i % block);
    return bounds.subarray(start, start + block).reduce((sum, bound) => sum + bound, 0) / Math.sqrt(block);
  });
  return { value: walshHadamardRef(value, block), error: summed };
}

function plus(x: Float64Array, { value, error }: Bounded): Bounded {
  const sum = value.map((v, i) => x[i]! + v);
  return { value: sum, error: error.map((e, i) => e + Math.abs(sum[i]!) * u) };
}
