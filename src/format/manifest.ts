import type { LlamaConfig } from './config';
import type { ActBits, ReconstructMode, SchemeName, WeightBits } from './scheme';
import type { WeightGrid } from './weight-grid';

/** What the two norm sites and the two projections of one quantized layer look like. */
export interface LayerSpec {
  /** K' of q,k,v: the gathered and padded input length, a multiple of 32. */
  readonly attnInputs: number;
  /** K' of gate,up. */
  readonly mlpInputs: number;
  /** The attention site's gather carries integer offsets (`segment`, zero points). */
  readonly attnOffsets: boolean;
  readonly mlpOffsets: boolean;
  /**
   * Parameter of the activation quantizer per site and projection: the clip ratio r of a dynamic quantizer, the step s of
   * a static one in front of o or down; 1 where the norm carries everything.
   */
  readonly attnAct: number;
  readonly oAct: number;
  readonly mlpAct: number;
  readonly downAct: number;
}

/** The Hadamard variant: rotations are in the weights, and this is what the engine computes. */
export interface HadamardSpec {
  /** down_proj's input is rotated in blocks of this many elements (Walsh–Hadamard, divided by √block) before quantization. */
  readonly downBlock: number;
}

export interface QuantSpec {
  readonly actBits: ActBits;
  readonly weightBits: WeightBits;
  /**
   * null: one scale a row and codes −8 … 7 (4 bits only). Else steps and zero points by groups, from version 2 on. A manifest
   * without the key is read as null.
   */
  readonly weightGrid: WeightGrid | null;
  readonly reconstruct: ReconstructMode;
  readonly alpha: number | null;
  /** null without rotations. A manifest without the key is read as null. */
  readonly hadamard: HadamardSpec | null;
  /** Offsets behind norms are zero points, taken off again by biases of qkv and gate_up (version 2). Left out: they are not. */
  readonly zeroPoints?: true | undefined;
  /** Tokens whose keys and values are stored as the float model has them (version 2). Left out: none. */
  readonly prefix?: { readonly ids: readonly number[] } | undefined;
  readonly layers: readonly LayerSpec[];
}

export interface FileEntry {
  /** A plain file name inside the artifact's folder. */
  readonly name: string;
  readonly bytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** Dtype of the embedding, the head and, in the `fp16` scheme, of every linear. */
export type DenseDtype = 'F16' | 'F32';

export interface Manifest {
  readonly format: 'mergequant';
  /** 2 where something of version 2 is used; see docs/FORMAT.md §4. */
  readonly version: 1 | 2;
  /** What the page shows. */
  readonly name: string;
  readonly config: LlamaConfig;
  readonly scheme: SchemeName;
  /** null for `fp16`. */
  readonly quant: QuantSpec | null;
  readonly denseDtype: DenseDtype;
  /** The embedding is stored as bytes with a scale a row instead (version 2). Left out: in `denseDtype`. */
  readonly embeddingBits?: 8 | undefined;
  /** Likewise the head, where it is not tied to the embedding. */
  readonly headBits?: 8 | undefined;
  /** Largest byte length of one stored tensor; larger matrices are stored in row blocks. */
  readonly maxTensorBytes: number;
  /** Safetensors shards in order. */
  readonly shards: readonly FileEntry[];
  /** tokenizer.json, tokenizer_config.json, generation_config.json (the last may be missing). */
  readonly tokenizerFiles: readonly FileEntry[];
  readonly provenance: Readonly<Record<string, unknown>>;
}
