/** A model's weights on the GPU. */
import type { WeightBits } from '../format/scheme';
import type { ModelLayout } from '../format/tensors';
import type { WeightGrid } from '../format/weight-grid';
import type { BufferArena, GpuMemory } from '../gpu/arena';
import type { MatrixDtype } from '../kernels/dense-layout';
import type { LayerTensors } from './layer-tensors';

/** A tensor that the model has no place for, came twice, has the wrong size, or never came. */
export class WeightsError extends Error {
  override readonly name = 'WeightsError';
}

/** Rows `rowStart` to `rowStart + rows` of a matrix, in a buffer that the GPU can bind whole. */
export interface RowBlock {
  readonly rowStart: number;
  readonly rows: number;
  readonly weight: GpuMemory;
}

/** A [N, K] matrix of floats, or of bytes with one scale per row; rows padded to 16 bytes. */
export interface DenseMatrix {
  readonly kind: 'dense';
  readonly dtype: MatrixDtype;
  readonly inputs: number; // K
  readonly outputs: number; // N
  readonly blocks: readonly RowBlock[];
  readonly scale: GpuMemory | null; // [N] f32, of bytes
  readonly bias: GpuMemory | null; // [N] f32
}

/** A [N, K'] matrix of packed 4-bit integers with one scale per row. */
export interface Int4Matrix {
  readonly kind: 'int4';
  readonly inputs: number; // K', a multiple of 32
  readonly outputs: number; // N
  readonly blocks: readonly RowBlock[];
  readonly scale: GpuMemory; // [N] f32
  readonly bias: GpuMemory | null; // [N] f32
}

/** A [N, K'] matrix of packed levels with a step and a zero point per group of a row. */
export interface GridMatrix {
  readonly kind: 'grid';
  readonly bits: WeightBits;
  readonly groups: WeightGrid;
  readonly inputs: number; // K', a multiple of 32
  readonly outputs: number; // N
  readonly blocks: readonly RowBlock[];
  readonly grid: GpuMemory; // [N, G] u32
  readonly bias: GpuMemory | null; // [N] f32
}

export type Matrix = DenseMatrix | Int4Matrix | GridMatrix;

/** An RMSNorm that keeps its weight γ, or one merged with the quantization step (Eq. 4) and the gather (Eq. 6). */
export type NormWeights =
  | { readonly kind: 'plain'; readonly weight: GpuMemory } // [D] f32
  | {
      readonly kind: 'merged';
      readonly inputs: number; // K'
      readonly gather: GpuMemory; // [K'] u32: source channel and offset
      readonly mult: GpuMemory; // [K'] f32: γ/s
    };

export interface LayerWeights {
  readonly attnNorm: NormWeights;
  readonly qkv: Matrix;
  readonly o: Matrix;
  readonly mlpNorm: NormWeights;
  readonly gateUp: Matrix;
  readonly down: Matrix;
  /** Keys and values of the float prefix tokens before their rotation; null without. */
  readonly prefix: GpuMemory | null; // [P, 2·Hkv·Dh] f32
}

export interface ModelWeights {
  readonly layout: ModelLayout;
  /** Owns every buffer below; destroy it to free the model. */
  readonly arena: BufferArena;
  /** The layer that every pass is to hold against the float64 reference (debug), as it was uploaded. */
  readonly checked: LayerTensors | null;
  readonly embed: DenseMatrix; // [V, D]
  readonly layers: readonly LayerWeights[];
  readonly finalNorm: GpuMemory; // [D] f32
  /** The same buffers as `embed` when the model ties them. */
  readonly head: DenseMatrix; // [V, D]
}
