/** Column maps and roundings of activations [T, K] on the GPU, each like its namesake on the host. */
import columnMaxSource from '../../shaders/column_max.wgsl?raw';
import expandSource from '../../shaders/expand_codes.wgsl?raw';
import mapSource from '../../shaders/map_columns.wgsl?raw';
import tokensSource from '../../shaders/round_tokens.wgsl?raw';
import squaresSource from '../../shaders/sum_squares.wgsl?raw';
import type { ActBits } from '../format/scheme';
import { foldGrid } from '../kernels/op';
import { intRange } from '../quantize/matrix';
import { dequantize, type QuantizedMatrix } from '../quantize/rtn';
import type { GpuWork } from './gpu-work';

/** Rows in a buffer. */
export interface RowsBuffer {
  readonly buffer: GPUBuffer;
  readonly rows: number;
  readonly cols: number;
}

/** What `mapColumns` makes of a row; see shaders/map_columns.wgsl. */
export interface ColumnMap {
  readonly gather: GPUBuffer; // [K'] u32
  readonly scale: GPUBuffer; // [K']
  readonly offset: GPUBuffer; // [K']
  readonly width: number; // K'
  /** v = x / scale instead of x · scale. */
  readonly divide: boolean;
  /** Bits of the integers, or null to round nothing. */
  readonly bits: ActBits | null;
  /** Offsets are added where nothing is rounded, too. */
  readonly shifted: boolean;
}

/** Uploads a map; `freeColumnMap` frees it. Defaults: channels in order, no offset. */
export function columnMap(
  work: GpuWork,
  scale: Float32Array,
  options: {
    readonly gather?: Uint32Array;
    readonly offset?: ArrayLike<number> | null;
    readonly divide: boolean;
    readonly bits: ActBits | null;
    readonly shifted?: boolean;
  },
): ColumnMap {
  const width = scale.length;
  const { gather = Uint32Array.from(scale, (_, k) => k), offset, divide, bits, shifted = false } = options;
  return {
    gather: work.upload('columns.gather', gather),
    scale: work.upload('columns.scale', scale),
    offset: work.upload('columns.offset', offset ? Float32Array.from(offset) : new Float32Array(width)),
    width,
    divide,
    bits,
    shifted,
  };
}

export function freeColumnMap(work: GpuWork, { gather, scale, offset }: ColumnMap): void {
  work.free(gather, scale, offset);
}

/** y [T, K'] = the map of x [T, K]; `difference`: what rounding loses. */
export function mapColumns(
  work: GpuWork,
  x: RowsBuffer,
  map: ColumnMap,
  y: GPUBuffer,
  difference = false,
): Promise<void> {
  const { min, max } = intRange(map.bits ?? 8);
  const flag = (value: boolean) => (value ? 1 : 0);
  return work.run({
    label: 'map_columns',
    source: mapSource,
    constants: {
      ROUND: flag(map.bits !== null),
      DIVIDE: flag(map.divide),
      DIFFERENCE: flag(difference),
      SHIFTED: flag(map.shifted && map.bits === null),
    },
    uniforms: [{ T: x.rows, K: x.cols, width: map.width, low: { f32: min }, high: { f32: max } }],
    buffers: [x.buffer, map.gather, map.scale, map.offset, y],
    grid: [...foldGrid(Math.ceil((x.rows * map.width) / 256)), 1],
  });
}

/** y [T, width] = integers times their token's scale ratio·max|x_t|/Qmax; `difference`: x minus that. */
export function roundTokens(
  work: GpuWork,
  x: RowsBuffer,
  ratio: number,
  bits: ActBits,
  width: number,
  y: GPUBuffer,
  difference = false,
): Promise<void> {
  const { min, max } = intRange(bits);
  return work.run({
    label: 'round_tokens',
    source: tokensSource,
    constants: { DIFFERENCE: difference ? 1 : 0, WORKGROUP: work.gpu.caps.software ? 4 : 256 },
    uniforms: [{ T: x.rows, K: x.cols, width, ratio: { f32: ratio }, low: { f32: min }, high: { f32: max } }],
    buffers: [x.buffer, y],
    grid: [...foldGrid(x.rows), 1],
  });
}

/** Raises `most` [K], bits of floats, to the columns' largest magnitudes. */
export function columnMax(work: GpuWork, { buffer, rows, cols }: RowsBuffer, most: GPUBuffer): Promise<void> {
  const perSlice = 64;
  return work.run({
    label: 'column_max',
    source: columnMaxSource,
    constants: { ROWS: perSlice },
    uniforms: [{ T: rows, K: cols }],
    buffers: [buffer, most],
    grid: [Math.ceil(cols / 64), Math.ceil(rows / perSlice), 1],
  });
}

/** Partial sums of squares of the first `count` floats into `sums` [groups]. */
export function sumSquares(
  work: GpuWork,
  x: GPUBuffer,
  count: number,
  sums: GPUBuffer,
  groups: number,
): Promise<void> {
  return work.run({
    label: 'sum_squares',
    source: squaresSource,
    constants: { WORKGROUP: work.gpu.caps.software ? 4 : 256 },
    uniforms: [{ count }],
    buffers: [x, sums],
    grid: [groups, 1, 1],
  });
}

/** Dequantized weights [N, K'] in a new buffer. */
export async function expandCodes(work: GpuWork, weight: QuantizedMatrix): Promise<GPUBuffer> {
  const { rows, cols, codes, scales } = weight;
  // the kernel knows scales of rows only
  if (weight.values || weight.grid) return work.upload('weights.float', dequantize(weight).data);
  const [packed, rowScales] = [work.upload('weights.codes', codes), work.upload('weights.scales', scales)];
  const w = work.create('weights.dequantized', rows * cols);
  await work.run({
    label: 'expand_codes',
    source: expandSource,
    uniforms: [{ N: rows, words: cols / 4 }],
    buffers: [packed, rowScales, w],
    grid: [...foldGrid(Math.ceil((rows * cols) / 4 / 256)), 1],
  });
  work.free(packed, rowScales);
  return w;
}
