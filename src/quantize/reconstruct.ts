/**
 * Dimension reconstruction, Eq. 6 of MergeQuant (arXiv 2503.07654).
 *
 * Migrating the step multiplies weight column k by s_k. A strong channel, s_k > T = μ(s) + α·σ(s), would stretch the
 * range of every weight row, so it is split: its integer q_k is repeated (the norm gathers the channel again) and each
 * repetition has its own weight column piece_j·W_k with pieces that add up to s_k and none above T.
 */
import type { ActBits, ReconstructMode } from '../format/scheme';
import { paddedInputs } from '../format/tensors';
import { intRange } from './matrix';

/** The columns of a site after reconstruction. Arrays are [K'], K' a multiple of 32; padding has piece 0 and step 0. */
export interface Reconstruction {
  /** Source channel of each column; 0 in padding. */
  readonly gather: Uint32Array;
  /** Step of each column's integer: the norm multiplies by γ/step. 0: the integer is always 0. */
  readonly steps: Float32Array;
  /** What each weight column is multiplied by. */
  readonly pieces: Float32Array;
  /** Added to each integer before the clamp (`segment`, zero points), or null when every offset is 0. */
  readonly offsets: Int32Array | null;
  /** `offsets` are zero points, which a bias takes off again behind the product; see zero-points.ts. */
  readonly centered?: boolean;
}

export interface ReconstructOptions {
  readonly mode: ReconstructMode;
  readonly alpha: number;
  readonly actBits: ActBits;
  /** Σ_t q_tk² per channel [K]; needed by `prune`. */
  readonly hessianDiagonal: Float32Array;
}

interface Column {
  readonly channel: number;
  readonly step: number;
  readonly piece: number;
  readonly offset: number;
}

/** T = μ(s) + α·σ(s), σ the population's standard deviation. */
export function outlierThreshold(scales: Float32Array, alpha: number): number {
  let sum = 0;
  for (const s of scales) sum += s;
  const mean = sum / scales.length;
  let squares = 0;
  for (const s of scales) squares += (s - mean) ** 2;
  return mean + alpha * Math.sqrt(squares / scales.length);
}

/** s = T + … + T + rest, ⌈s/T⌉ pieces in (0, T]. A scale within the threshold is one piece. */
export function splitScale(scale: number, threshold: number): number[] {
  if (!(scale > threshold) || threshold <= 0) return [scale];
  const whole = Math.ceil(scale / threshold) - 1;
  return [...new Array<number>(whole).fill(threshold), scale - whole * threshold];
}

/** Most segments of one channel whose offsets stay below the 2048 that the kernels allow: 256 or 16. */
export function maxSegments(actBits: ActBits): number {
  return Math.floor(2047 / 2 ** (actBits - 1)) + 1;
}

/**
 * Offsets b_j, j = 0 … P−1, with Σ_j clamp(v + b_j, min, max) = v for every integer v in [P·min, P·max]:
 * b_j = min·(1 − P) − (max − min)·j, for 4 bits −8 + 8P − 15j.
 */
export function segmentOffsets(count: number, actBits: ActBits): number[] {
  const { min, max } = intRange(actBits);
  return Array.from({ length: count }, (_, j) => min * (1 - count) - (max - min) * j);
}

/**
 * Channels that `prune` drops to make room for `added` columns. With N neighbours c ± 1 of the outlier channels (no
 * outliers, no repetition, none out of range): N > M the M of least Hessian diagonal, N = M all of them, N < M all of
 * them and the M − N of least diagonal among the rest. Outlier channels are never dropped.
 */
export function prunedChannels(
  outliers: readonly number[],
  added: number,
  hessianDiagonal: Float32Array,
): number[] {
  const isOutlier = new Set(outliers);
  const inRange = (c: number) => c >= 0 && c < hessianDiagonal.length && !isOutlier.has(c);
  const neighbours = [...new Set(outliers.flatMap((c) => [c - 1, c + 1]).filter(inRange))];
  const byDiagonal = (a: number, b: number) => hessianDiagonal[a]! - hessianDiagonal[b]! || a - b;
  if (neighbours.length >= added) return neighbours.sort(byDiagonal).slice(0, added);
  const taken = new Set(neighbours);
  const rest = [...hessianDiagonal.keys()].filter((c) => !isOutlier.has(c) && !taken.has(c)).sort(byDiagonal);
  return [...neighbours, ...rest.slice(0, added - neighbours.length)];
}

/** Columns of one strong channel: pieces of one integer, or segments of a finer one. */
function splitColumns(
  channel: number,
  scale: number,
  threshold: number,
  options: ReconstructOptions,
): Column[] {
  const pieces = splitScale(scale, threshold);
  if (options.mode !== 'segment') return pieces.map((piece) => ({ channel, step: scale, piece, offset: 0 }));
  const count = Math.min(pieces.length, maxSegments(options.actBits));
  const step = scale / count;
  return segmentOffsets(count, options.actBits).map((offset) => ({ channel, step, piece: step, offset }));
}

/**
 * Eq. 6 on a site's scales [K]. Modes: `none` keeps the channels as they are; `pad` adds columns; `prune` adds columns
 * and drops as many channels; `segment` adds columns that make a strong channel's step finer. All pad K' to 32.
 */
export function reconstruct(scales: Float32Array, options: ReconstructOptions): Reconstruction {
  const threshold =
    options.mode === 'none' ? Number.POSITIVE_INFINITY : outlierThreshold(scales, options.alpha);
  const columns: Column[] = [];
  const outliers: number[] = [];
  scales.forEach((scale, channel) => {
    const own = splitColumns(channel, scale, threshold, options);
    if (own.length > 1) outliers.push(channel);
    columns.push(...own);
  });
  if (options.mode !== 'prune') return assemble(columns);
  const dropped = new Set(prunedChannels(outliers, columns.length - scales.length, options.hessianDiagonal));
  return assemble(columns.filter((column) => !dropped.has(column.channel)));
}

function assemble(columns: readonly Column[]): Reconstruction {
  const length = paddedInputs(columns.length);
  const gather = new Uint32Array(length);
  const steps = new Float32Array(length);
  const pieces = new Float32Array(length);
  const offsets = new Int32Array(length);
  columns.forEach((column, j) => {
    gather[j] = column.channel;
    steps[j] = column.step;
    pieces[j] = column.piece;
    offsets[j] = column.offset;
  });
  return { gather, steps, pieces, offsets: offsets.some((b) => b !== 0) ? offsets : null };
}
