/**
 * A quantized block that gradients pass through: integers are rounded in the forward pass and taken for their unrounded
 * values in the backward pass (straight-through estimator), for weights `quant(W' + AB)` and activations alike.
 */
import { lax, nn, numpy as np } from '@jax-js/jax';
import type { LlamaConfig } from '../format/config';
import { type ActBits, type ActivationMode, qMax, type WeightBits } from '../format/scheme';
import type { Parameters } from './adamw';

export type LinearName = 'qkv' | 'o' | 'gateUp' | 'down';
export const linearNames: readonly LinearName[] = ['qkv', 'o', 'gateUp', 'down'];

/**
 * What a block's arrays are called; all of one layer, constant while it trains. `<linear>.act` [1, 1] is the clip ratio of
 * a dynamic quantizer over Qmax, or the step of a static one.
 */
export type BlockArrays = { [name: string]: np.Array };

export interface BlockShape {
  readonly config: LlamaConfig;
  readonly actBits: ActBits;
  readonly weightBits: WeightBits;
  /** `static` behind a norm reads `<site>.mult`, `<site>.select` (absent: in order) and `<site>.offset` (may be absent). */
  readonly normMode: ActivationMode;
  readonly projectionMode: ActivationMode;
  readonly hadamardBlock: number | null;
  /** false leaves out all rounding, but no clamp: the function whose derivative the straight-through estimator takes. */
  readonly rounds: boolean;
}

/** One batch: rows of tokens of one or more sequences. R rows of L tokens. */
export type Batch = {
  x: np.Array; // [R·L, D]
  target: np.Array; // [R·L, D]
  weight: np.Array; // [R·L, 1]
  starts: np.Array; // [R, 1, L, 1], the first token of the row that each may look at
  cos: np.Array; // [R, L, 1, Dh/2]
  sin: np.Array;
  prefix?: np.Array; // [R·L, P], 1 where a token is the prefix's p-th; absent without a float prefix
};

/** round(x), derivative 1. Exact: round(x) − x has no rounding error. */
function roundThrough(x: np.Array, rounds: boolean): np.Array {
  if (!rounds) return x;
  const difference = np.rint(x.ref).sub(x.ref);
  return x.add(lax.stopGradient(difference));
}

/** clamp(round(x)), derivative 1 inside the range and 0 outside. */
function quantThrough(x: np.Array, bits: number, rounds: boolean): np.Array {
  return np.clip(roundThrough(x, rounds), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1);
}

/** Per-token integers and their scale s_t = act·max|x|, which is taken for a constant. Consumes x. */
function tokenThrough(
  x: np.Array,
  act: np.Array,
  { actBits, rounds }: BlockShape,
): { q: np.Array; scale: np.Array } {
  const most = np.max(np.absolute(lax.stopGradient(x.ref)), 1, { keepdims: true });
  const scale = np.maximum(most.mul(act.ref), 1e-30);
  return { q: quantThrough(x.div(scale.ref), actBits, rounds), scale };
}

/** [N, G] per group to [N, K'] per element, as the constant `<name>.spread` says; [N, 1] without it. Consumes x. */
function spread(x: np.Array, name: LinearName, constants: BlockArrays): np.Array {
  const groups = constants[`${name}.spread`];
  return groups ? np.matmul(x, groups.ref) : x;
}

/**
 * A linear's integer codes as they are being trained: clamp(round((u + Δ)·e^−σ)), u the migrated weight in distances of levels,
 * Δ = A·B or a whole matrix, σ the logarithm of the change of the row's (or group's) scale. With zero points z, in levels:
 * clamp(round((u + Δ)·e^−σ + z)) − z.
 */
function trainedCodes(
  { rounds, weightBits }: BlockShape,
  name: LinearName,
  parameters: Parameters,
  constants: BlockArrays,
): np.Array {
  let units = constants[`${name}.units`]!.ref;
  const whole = parameters[`${name}.delta`];
  if (whole) units = units.add(whole.ref);
  const [a, b] = [parameters[`${name}.a`], parameters[`${name}.b`]];
  if (a && b) units = units.add(np.matmul(a.ref, b.ref));
  const growth = parameters[`${name}.growth`];
  if (growth) units = units.mul(np.exp(spread(growth.ref.mul(-1), name, constants)));
  const zero = constants[`${name}.zero`];
  if (!zero) return quantThrough(units, weightBits, rounds);
  const levels = np.clip(roundThrough(units.add(zero.ref), rounds), 0, 2 ** weightBits - 1);
  return levels.sub(zero.ref);
}

/** y = (q·codesᵀ)·s·e^σ (·s_t) + b, scales of groups within the product. Consumes q and tokenScale. */
function linear(
  shape: BlockShape,
  name: LinearName,
  q: np.Array,
  tokenScale: np.Array | null,
  parameters: Parameters,
  constants: BlockArrays,
): np.Array {
  const codes = trainedCodes(shape, name, parameters, constants);
  let scale = constants[`${name}.scale`]!.ref; // [N, G]
  const growth = parameters[`${name}.growth`];
  if (growth) scale = scale.mul(np.exp(growth.ref));
  let y = constants[`${name}.spread`]
    ? np.matmul(q, np.transpose(codes.mul(spread(scale, name, constants))))
    : np.matmul(q, np.transpose(codes)).mul(np.transpose(scale));
  if (tokenScale) y = y.mul(tokenScale);
  const bias = constants[`${name}.bias`];
  return bias ? y.add(bias.ref) : y;
}

/** RMSNorm and its quantizer, then the linear behind. Consumes x. */
function normLinear(
  shape: BlockShape,
  site: 'attn' | 'mlp',
  name: LinearName,
  x: np.Array,
  parameters: Parameters,
  constants: BlockArrays,
): np.Array {
  const mean = np.mean(np.square(x.ref), 1, { keepdims: true });
  const normed = x.div(np.sqrt(mean.add(shape.config.rmsNormEps)));
  if (shape.normMode === 'dynamic') {
    const y = padTo(normed.mul(constants[`${site}.gamma`]!.ref), constants[`${name}.units`]!.shape[1]!);
    const { q, scale } = tokenThrough(y, constants[`${name}.act`]!, shape);
    return linear(shape, name, q, scale, parameters, constants);
  }
  const select = constants[`${site}.select`]; // [D, K'], one 1 a column
  const gathered = select ? np.matmul(normed, select.ref) : normed;
  const offset = constants[`${site}.offset`];
  const rounded = roundThrough(gathered.mul(constants[`${site}.mult`]!.ref), shape.rounds);
  const shifted = offset ? rounded.add(offset.ref) : rounded;
  const most = qMax(shape.actBits);
  return linear(shape, name, np.clip(shifted, -most - 1, most), null, parameters, constants);
}

function padTo(x: np.Array, width: number): np.Array {
  const [rows, cols] = x.shape as [number, number];
  return cols === width ? x : np.concatenate([x, np.zeros([rows, width - cols])], 1);
}

/** The quantizer in front of o or down, then the linear. Consumes x. */
function projection(
  shape: BlockShape,
  name: 'o' | 'down',
  x: np.Array,
  parameters: Parameters,
  constants: BlockArrays,
): np.Array {
  const padded = padTo(x, constants[`${name}.units`]!.shape[1]!);
  const act = constants[`${name}.act`]!;
  if (shape.projectionMode === 'static') {
    const q = quantThrough(padded.div(act.ref), shape.actBits, shape.rounds);
    return linear(shape, name, q, null, parameters, constants);
  }
  const { q, scale } = tokenThrough(padded, act, shape);
  return linear(shape, name, q, scale, parameters, constants);
}

/** q,k,v with keys and values of the float prefix (`qkv.prefix`) at its tokens, where nothing is trained. Consumes qkv. */
function withFloatPrefix(qkv: np.Array, { prefix: places }: Batch, constants: BlockArrays): np.Array {
  const floats = constants['qkv.prefix']; // [P, 2·Hkv·Dh]
  if (!places || !floats) return qkv;
  const [queries, own] = np.split(qkv, [qkv.shape[1]! - floats.shape[1]!], 1) as [np.Array, np.Array];
  const isOwn = np.sum(places.ref, 1, { keepdims: true }).mul(-1).add(1);
  return np.concatenate([queries, own.mul(isOwn).add(np.matmul(places.ref, floats.ref))], 1);
}

/** RoPE on [R, L, heads, Dh], halves paired. Consumes x. */
function rotateHeads(x: np.Array, { cos, sin }: Batch): np.Array {
  const [a, b] = np.split(x, 2, 3) as [np.Array, np.Array];
  const first = a.ref.mul(cos.ref).sub(b.ref.mul(sin.ref));
  const second = b.mul(cos.ref).add(a.mul(sin.ref));
  return np.concatenate([first, second], 3);
}

/** Added to attention scores [R, 1, L, L]: 0 where a token may look, else a large negative number. */
function attentionMask(starts: np.Array): np.Array {
  const L = starts.shape[2]!;
  const keys = np.arange(L).astype(np.float32).reshape([1, 1, 1, L]);
  const queries = np.arange(L).astype(np.float32).reshape([1, 1, L, 1]);
  const behind = np.where(keys.ref.greaterEqual(starts.ref), 0, -1e9);
  return np.minimum(behind, np.where(keys.lessEqual(queries), 0, -1e9));
}

/** Causal grouped-query attention within each segment: [R·L, (H + 2·Hkv)·Dh] -> [R·L, H·Dh]. Consumes qkv. */
function attend({ config }: BlockShape, qkv: np.Array, batch: Batch): np.Array {
  const { numHeads: H, numKvHeads, headDim: Dh } = config;
  const [R, , L] = batch.starts.shape as [number, number, number, number];
  const parts = np.split(qkv, [H * Dh, (H + numKvHeads) * Dh], 1) as [np.Array, np.Array, np.Array];
  const heads = (part: np.Array, count: number) => part.reshape([R, L, count, Dh]);
  const grouped = (x: np.Array) => {
    const front = np.transpose(x, [0, 2, 1, 3]); // [R, Hkv, L, Dh]
    return numKvHeads === H ? front : np.repeat(front, H / numKvHeads, 1);
  };
  const queries = np.transpose(rotateHeads(heads(parts[0], H), batch), [0, 2, 1, 3]);
  const keys = grouped(rotateHeads(heads(parts[1], numKvHeads), batch));
  const values = grouped(heads(parts[2], numKvHeads));
  const scores = np.matmul(queries, np.transpose(keys, [0, 1, 3, 2])).mul(1 / Math.sqrt(Dh));
  const weights = nn.softmax(scores.add(attentionMask(batch.starts)), -1);
  return np.transpose(np.matmul(weights, values), [0, 2, 1, 3]).reshape([R * L, H * Dh]);
}

/** SwiGLU's gate on interleaved rows: [T, 2F] -> [T, F]. Consumes gateUp. */
function gate({ config, hadamardBlock }: BlockShape, gateUp: np.Array, constants: BlockArrays): np.Array {
  const F = config.intermediateSize;
  const T = gateUp.shape[0]!;
  const [g, u] = np.split(gateUp.reshape([T, F, 2]), 2, 2) as [np.Array, np.Array];
  const gated = nn.silu(g).mul(u).reshape([T, F]);
  if (hadamardBlock === null) return gated;
  const blocks = gated.reshape([(T * F) / hadamardBlock, hadamardBlock]);
  return np.matmul(blocks, constants.hadamard!.ref).reshape([T, F]);
}

/** The block's output [R·L, D]. Leaves its arguments alive. */
export function blockOutput(
  shape: BlockShape,
  parameters: Parameters,
  constants: BlockArrays,
  batch: Batch,
): np.Array {
  const qkv = normLinear(shape, 'attn', 'qkv', batch.x.ref, parameters, constants);
  const attended = attend(shape, withFloatPrefix(qkv, batch, constants), batch);
  const middle = batch.x.ref.add(projection(shape, 'o', attended, parameters, constants));
  const gateUp = normLinear(shape, 'mlp', 'gateUp', middle.ref, parameters, constants);
  return middle.add(projection(shape, 'down', gate(shape, gateUp, constants), parameters, constants));
}

/** Σ weight·(y − target)² / D, the mean squared error when the weights add up to 1. Leaves its arguments alive. */
export function blockLoss(
  shape: BlockShape,
  parameters: Parameters,
  constants: BlockArrays,
  batch: Batch,
): np.Array {
  const error = blockOutput(shape, parameters, constants, batch).sub(batch.target.ref);
  return np.sum(np.mean(np.square(error), 1, { keepdims: true }).mul(batch.weight.ref));
}
